use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;
use crate::format::content::Content;
use crate::format::entry::{EntryKind, Metadata};

fn named(name: &str) -> Entry {
    Entry::new(name.as_bytes().to_vec(), EntryKind::File, Metadata::default())
}

fn build(names: &[String]) -> (Root, BTreeMap<ChunkId, Vec<u8>>) {
    let mut pages = BTreeMap::new();
    let mut builder =
        PageBuilder::new(PageKind::Tree, SecretKey::from_bytes([1; 32]), |page: FinishedPage| {
            let id = ChunkId(*blake3::hash(&page.bytes).as_bytes());
            pages.insert(id, page.bytes);
            Ok::<_, Infallible>(id)
        });
    names.iter().for_each(|name| builder.push_entry(&named(name)).unwrap());
    let Ok((root, totals)) = builder.finish();
    assert_eq!(totals.entries, names.len() as u64);
    (root, pages)
}

fn keys(root: Root, pages: &BTreeMap<ChunkId, Vec<u8>>) -> Vec<String> {
    match Page::parse(&pages[&root.id], PageKind::Tree, root.level).unwrap() {
        Page::Entries(entries) => {
            entries.into_iter().map(|e| String::from_utf8(e.key).unwrap()).collect()
        }
        Page::TreeChildren(children) => children
            .into_iter()
            .flat_map(|child| keys(Root { id: child.id, level: root.level - 1 }, pages))
            .collect(),
        _ => unreachable!(),
    }
}

#[test]
fn one_change_touches_one_page_a_level() {
    let mut names: Vec<String> = (0..200_000).map(|n| format!("files\0{n:07}")).collect();
    let (root, before) = build(&names);
    assert!(root.level >= 1);
    assert_eq!(keys(root, &before), names);
    names.remove(100_000);
    let (root, after) = build(&names);
    assert_eq!(keys(root, &after), names);
    let new = after.keys().filter(|id| !before.contains_key(id)).count();
    assert!(new <= 6, "{new} new pages of {}", after.len());
    assert!(after.values().all(|page| page.len() <= TARGET_MAX_PAGE));
}

/// Entries with these numbers as the names of files, some longer than others.
fn entries(numbers: impl Iterator<Item = u32>) -> Vec<Entry> {
    let entry = |number: u32| {
        // now and then one so long that a page is full before a hit
        let long = if number.is_multiple_of(61) { 40_000 } else { 97 };
        let tail = "x".repeat(number as usize * 7 % long);
        let mut entry = named(&format!("files\0{number:06}{tail}"));
        entry.metadata.size = u64::from(number);
        entry.metadata.inode = u64::from(number);
        entry.content = Content::Items(vec![Item::Hole { length: u64::from(number) }]);
        entry
    };
    numbers.filter(|number| *number > 0).map(entry).collect()
}

/// Leaves of a tree in their order.
fn leaves(root: Root, pages: &BTreeMap<ChunkId, Vec<u8>>) -> Vec<KnownPage> {
    let bytes = &pages[&root.id];
    match Page::parse(bytes, PageKind::Tree, root.level).unwrap() {
        Page::Entries(entries) => {
            vec![KnownPage { id: root.id, length: bytes.len(), entries }]
        }
        Page::TreeChildren(children) => children
            .into_iter()
            .flat_map(|child| leaves(Root { id: child.id, level: root.level - 1 }, pages))
            .collect(),
        _ => unreachable!(),
    }
}

#[derive(Default)]
struct Sink {
    pages: BTreeMap<ChunkId, Vec<u8>>,
    reused: Vec<ChunkId>,
    /// Bits of a page's name of which one must be set for it to be taken.
    refuses: u8,
}

impl PageSink for &mut Sink {
    type Error = Infallible;

    fn store(&mut self, page: FinishedPage) -> std::result::Result<ChunkId, Infallible> {
        let id = ChunkId(*blake3::hash(&page.bytes).as_bytes());
        self.pages.insert(id, page.bytes);
        Ok(id)
    }

    fn reuse(&mut self, page: &ChunkId) -> std::result::Result<bool, Infallible> {
        let takes = page.0[0] & self.refuses != 0 || self.refuses == 0;
        self.reused.extend(takes.then_some(*page));
        Ok(takes)
    }
}

fn tree_of(entries: &[Entry]) -> (Root, Totals, BTreeMap<ChunkId, Vec<u8>>) {
    let mut sink = Sink::default();
    let mut builder = PageBuilder::new(PageKind::Tree, SecretKey::from_bytes([1; 32]), &mut sink);
    entries.iter().for_each(|entry| builder.push_entry(entry).unwrap());
    let Ok((root, totals)) = builder.finish();
    (root, totals, sink.pages)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    /// Entries go and come; pages that none went from are pushed whole.
    #[test]
    fn known_pages_give_the_same_tree(
        count in 1u32..6000,
        gone in proptest::collection::btree_set(0u32..6000, 0..6),
        new in proptest::collection::btree_set(0u32..12_000, 0..6),
        refuses in proptest::sample::select(vec![0u8, 0, 1]),
    ) {
        let old = entries((0..count).map(|number| number * 2));
        let (root, _, stored) = tree_of(&old);
        let now = |number: &u32| {
            let is_old = number.is_multiple_of(2) && number / 2 < count && !gone.contains(&(number / 2));
            is_old || new.contains(number)
        };
        let expected = tree_of(&entries((0..12_000).filter(now)));
        let mut sink = Sink { refuses, ..Sink::default() };
        let mut builder =
            PageBuilder::new(PageKind::Tree, SecretKey::from_bytes([1; 32]), &mut sink);
        let mut from = 0;
        for page in leaves(root, &stored) {
            let last = page.entries.last().unwrap().metadata.size as u32;
            let here = entries((from..=last).filter(now));
            from = last + 1;
            if here == page.entries {
                builder.push_known_page(page).unwrap();
            } else {
                here.iter().for_each(|entry| builder.push_entry(entry).unwrap());
            }
        }
        let rest = entries((from..12_000).filter(now));
        rest.iter().for_each(|entry| builder.push_entry(entry).unwrap());
        let Ok((root, totals)) = builder.finish();
        proptest::prop_assert_eq!((root, totals), (expected.0, expected.1));
        let Sink { pages, reused, .. } = sink;
        // what was reused is in the tree, and what is in the tree was reused or stored
        proptest::prop_assert!(reused.iter().all(|page| expected.2.contains_key(page)));
        let has = |page: &ChunkId| pages.contains_key(page) || reused.contains(page);
        proptest::prop_assert!(expected.2.keys().all(has));
        if gone.is_empty() && new.is_empty() && refuses == 0 {
            proptest::prop_assert!(reused.len() + 1 >= leaves(root, &stored).len());
        }
    }
}

#[test]
fn nothing_is_one_empty_page() {
    let (root, pages) = build(&[]);
    assert_eq!((root.level, pages.len()), (0, 1));
    assert!(keys(root, &pages).is_empty());
}
