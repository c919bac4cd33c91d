//! Cases of entries, contents, references and pages.

use esker::format::content::{Content, Item, Root};
use esker::format::entry::{Entry, EntryKind, Metadata, Timestamp};
use esker::format::pack::Birth;
use esker::format::reference::Reference;
use esker::id::{ChunkId, PackId, hex};
use serde_json::{Value, json};

use crate::{Case, ok, reject};

fn plain(key: &[u8], kind: EntryKind) -> Entry {
    let metadata = Metadata {
        mode: 0o644,
        uid: 1000,
        gid: 100,
        mtime: Timestamp { seconds: 1_790_000_000, nanoseconds: 123_456_789 },
        ctime: Timestamp { seconds: -1, nanoseconds: 999_999_999 },
        inode: 42,
        ..Metadata::default()
    };
    Entry::new(key.to_vec(), kind, metadata)
}

fn encoded(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode_into(&mut bytes);
    bytes
}

fn chunk(id: u8, length: u32) -> Item {
    Item::Chunk { id: ChunkId([id; 32]), length }
}

fn full_file() -> Entry {
    let mut file = plain(b"files\0etc\0\xff\xfe", EntryKind::File);
    file.metadata.user = b"root"[..].into();
    file.metadata.group = b"wheel"[..].into();
    file.metadata.size = 5 + 8192 + 7;
    file.metadata.xattrs = vec![(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), vec![1, 2])];
    file.long_xattrs = vec![(b"user.long".to_vec(), Content::Items(vec![chunk(3, 5000)]))];
    file.content = Content::Items(vec![chunk(1, 5), Item::Hole { length: 8192 }, chunk(2, 7)]);
    file.link_group = 9;
    file.filesystem = Some(1);
    file.changed_while_read = true;
    file.sparse = true;
    file
}

fn inputs(bytes: &[u8]) -> Value {
    json!({ "bytes": hex(bytes) })
}

pub fn entry() -> Vec<Case> {
    let mut cases = contents();
    cases.extend(good_entries());
    cases.extend(bad_entries());
    cases.extend(references());
    cases
}

fn good_entries() -> Vec<Case> {
    let mut inline = plain(b"db", EntryKind::File);
    inline.metadata.size = 3;
    inline.content = Content::Inline(b"abc".to_vec());
    let mut listed = plain(b"files\0big", EntryKind::File);
    listed.metadata.size = 1 << 40;
    listed.content = Content::List(Root { id: ChunkId([7; 32]), level: 2 });
    let mut link = plain(b"files\0l", EntryKind::Symlink);
    link.metadata.target = b"../x".to_vec();
    let mut node = plain(b"files\0null", EntryKind::CharDevice);
    node.metadata.device = Some((1, 3));
    let mut disk = plain(b"files\0sda", EntryKind::BlockDevice);
    disk.metadata.device = Some((8, 0));
    [
        ("directory", plain(b"files", EntryKind::Directory)),
        ("empty file", plain(b"files\0empty", EntryKind::File)),
        ("inline file", inline),
        ("file with every field", full_file()),
        ("file with a list", listed),
        ("symlink", link),
        ("character device", node),
        ("block device", disk),
        ("fifo", plain(b"files\0pipe", EntryKind::Fifo)),
        ("dots within names", plain(b"files\0...\0.a\0a..", EntryKind::Directory)),
    ]
    .map(|(name, entry)| ok("entry", name, inputs(&encoded(&entry)), json!({})))
    .into()
}

fn bad_entries() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut bad = |rule, name: &str, bytes: &[u8]| {
        cases.push(reject("entry", rule, name, inputs(bytes), json!({})));
    };
    for (name, key) in [
        ("empty key", &b""[..]),
        ("empty last component", b"files\0"),
        ("empty first component", b"\0a"),
        ("empty component within", b"a\0\0b"),
        ("component ..", b"files\0..\0etc"),
        ("component .", b"files\0."),
        ("slash", b"files\0a/b"),
    ] {
        bad("ENT-1", name, &encoded(&plain(key, EntryKind::Directory)));
    }
    let directory = encoded(&plain(b"files", EntryKind::Directory));
    let altered = |at: usize, bytes: &[u8]| {
        let mut entry = directory.clone();
        entry[at..at + bytes.len()].copy_from_slice(bytes);
        entry
    };
    // key 2 + 5, kind at 7, fields at 8, mode at 10, uid, gid, mtime at 20, ctime at 32, inode
    bad("ENT-2", "kind 0", &altered(7, &[0]));
    bad("ENT-2", "kind 7", &altered(7, &[7]));
    bad("ENT-3", "unknown field bit 12", &altered(9, &[0x10]));
    bad("ENT-3", "mode 0o10000", &altered(10, &[0, 0x10]));
    bad("ENT-8", "a second of nanoseconds", &altered(28, &1_000_000_000u32.to_le_bytes()));
    bad("ENT-8", "nanoseconds of the ctime", &altered(40, &u32::MAX.to_le_bytes()));
    let present = |bit: u16, value: &[u8]| {
        let mut entry = altered(8, &bit.to_le_bytes());
        entry.extend_from_slice(value);
        entry
    };
    bad("ENT-4", "empty user name", &present(1 << 0, &[0]));
    bad("ENT-4", "empty group name", &present(1 << 1, &[0]));
    bad("ENT-4", "size 0", &present(1 << 2, &[0; 8]));
    bad("ENT-4", "link group 0", &present(1 << 3, &[0; 8]));
    bad("ENT-4", "empty target", &present(1 << 6, &[0, 0]));
    bad("ENT-4", "no attributes", &present(1 << 7, &[0, 0]));
    bad("ENT-4", "no long attributes", &present(1 << 8, &[0, 0]));
    bad("ENT-4", "empty content", &present(1 << 9, &[0]));
    bad("ENT-5", "directory with a size", &present(1 << 2, &[1, 0, 0, 0, 0, 0, 0, 0]));
    bad("ENT-5", "directory with content", &present(1 << 9, &[1, 1, 0, b'x']));
    bad("ENT-5", "directory that is sparse", &present(1 << 11, &[]));
    bad("ENT-5", "directory with a target", &present(1 << 6, &[1, 0, b'x']));
    bad("ENT-5", "directory with a device", &present(1 << 5, &[0; 8]));
    bad("ENT-5", "symlink without target", &altered(7, &[3]));
    bad("ENT-5", "device without numbers", &altered(7, &[4]));
    let symlink = |target: &[u8]| {
        let mut link = plain(b"files", EntryKind::Symlink);
        link.metadata.target = target.to_vec();
        encoded(&link)
    };
    bad("ENT-5", "target of 4097 bytes", &symlink(&[b'x'; 4097]));
    bad("ENT-5", "target with a zero byte", &symlink(b"a\0b"));
    let attributes = |names: &[&[u8]], value: &[u8]| {
        let mut entry = plain(b"files", EntryKind::Directory);
        entry.metadata.xattrs = names.iter().map(|n| (n.to_vec(), value.to_vec())).collect();
        encoded(&entry)
    };
    bad("ENT-6", "attributes not sorted", &attributes(&[b"b", b"a"], b""));
    bad("ENT-6", "attributes repeat", &attributes(&[b"a", b"a"], b""));
    bad("ENT-6", "attribute without name", &attributes(&[b""], b""));
    bad("ENT-6", "zero byte in an attribute's name", &attributes(&[b"a\0"], b""));
    bad("ENT-6", "attribute of 4097 bytes", &attributes(&[b"a"], &[0; 4097]));
    let mut twice = full_file();
    twice.long_xattrs[0].0 = b"user.b".to_vec();
    bad("ENT-6", "attribute in both lists", &encoded(&twice));
    bad("ENT-6", "8193 attributes", &present(1 << 7, &8193u16.to_le_bytes()));
    let sized = |size: u64, content: Content| {
        let mut file = plain(b"files", EntryKind::File);
        file.metadata.size = size;
        file.content = content;
        encoded(&file)
    };
    bad("ENT-7", "size without content", &sized(1, Content::Empty));
    bad("ENT-7", "inline shorter than the size", &sized(4, Content::Inline(b"abc".into())));
    bad("ENT-7", "items longer than the size", &sized(4, Content::Items(vec![chunk(1, 5)])));
    let endless = || Content::Items(vec![Item::Hole { length: u64::MAX }, chunk(1, 6)]);
    bad("ENT-7", "items that overflow 64 bits, to the size", &sized(5, endless()));
    bad("ENT-7", "items that overflow 64 bits, not to the size", &sized(u64::MAX, endless()));
    let mut attribute = full_file();
    attribute.long_xattrs[0].1 = endless();
    bad("ENT-7", "items of an attribute that overflow 64 bits", &encoded(&attribute));
    bad("PAGE-2", "cut within the key", &directory[..6]);
    bad("PAGE-2", "cut within the inode", &directory[..directory.len() - 1]);
    bad("PAGE-2", "byte behind the entry", &[&directory[..], &[0]].concat());
    cases
}

fn contents() -> Vec<Case> {
    let id = [9u8; 32];
    let chunk = |length: u32| [&[1][..], &length.to_le_bytes(), &id].concat();
    let hole = |length: u64| [&[2][..], &length.to_le_bytes()].concat();
    let items =
        |count: u8, item: &[u8]| [&[2, count][..], &item.repeat(usize::from(count))].concat();
    let inline =
        |length: u16| [&[1][..], &length.to_le_bytes(), &vec![b'x'; usize::from(length)]].concat();
    let good = [
        ("empty", vec![0]),
        ("inline of 1", inline(1)),
        ("inline of 4096", inline(4096)),
        ("16 chunks of 4 MiB", items(16, &chunk(4 << 20))),
        ("hole of 2^64 - 1", items(1, &hole(u64::MAX))),
        ("list of level 16", [&[3, 16][..], &id].concat()),
    ];
    let bad = [
        ("CONT-1", "chunk of nothing", items(1, &chunk(0))),
        ("CONT-1", "chunk over 4 MiB", items(1, &chunk((4 << 20) + 1))),
        ("CONT-1", "hole of nothing", items(1, &hole(0))),
        ("CONT-2", "content of type 4", vec![4]),
        ("CONT-2", "item of type 3", items(1, &[3])),
        ("CONT-3", "inline of nothing", inline(0)),
        ("CONT-3", "inline of 4097", inline(4097)),
        ("CONT-3", "no items", items(0, &chunk(1))),
        ("CONT-3", "17 items", items(17, &chunk(1))),
        ("CONT-3", "list of level 17", [&[3, 17][..], &id].concat()),
        ("PAGE-2", "nothing", vec![]),
        ("PAGE-2", "cut within an id", items(1, &chunk(1))[..20].to_vec()),
        ("PAGE-2", "cut within inline bytes", inline(5)[..6].to_vec()),
    ];
    let good = good.map(|(name, bytes)| ok("content", name, inputs(&bytes), json!({})));
    let bad =
        bad.map(|(rule, name, bytes)| reject("content", rule, name, inputs(&bytes), json!({})));
    good.into_iter().chain(bad).collect()
}

fn reference(birth: u64, pack: u8, runs: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Reference { birth: Birth(birth), pack: PackId([pack; 32]), runs: runs.to_vec() }
        .encode_into(&mut bytes);
    bytes
}

fn references() -> Vec<Case> {
    let good = [
        ("one chunk", reference(1_790_000_000_000 << 20, 1, &[(7, 7)])),
        ("all of a pack", reference(0, 1, &[(0, 65_535)])),
        ("runs one apart", reference(0, 1, &[(0, 0), (2, 9), (65_535, 65_535)])),
    ];
    let bad = [
        ("REF-1", "no run", reference(0, 1, &[])),
        ("REF-2", "first above last", reference(0, 1, &[(3, 2)])),
        ("REF-2", "runs touch", reference(0, 1, &[(0, 4), (5, 6)])),
        ("REF-2", "runs overlap", reference(0, 1, &[(0, 4), (2, 6)])),
        ("REF-2", "runs not sorted", reference(0, 1, &[(8, 9), (2, 3)])),
        ("REF-2", "a run behind 65535", reference(0, 1, &[(9, 65_535), (0, 0)])),
        ("PAGE-2", "cut within a run", reference(0, 1, &[(7, 7)])[..44].to_vec()),
    ];
    let good = good.map(|(name, bytes)| ok("reference", name, inputs(&bytes), json!({})));
    let bad =
        bad.map(|(rule, name, bytes)| reject("reference", rule, name, inputs(&bytes), json!({})));
    good.into_iter().chain(bad).collect()
}

fn page_bytes(kind: u8, level: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![kind, level, 0, 0];
    bytes.extend_from_slice(&(items.len() as u32).to_le_bytes());
    items.iter().for_each(|item| bytes.extend_from_slice(item));
    bytes
}

fn tree_child(first: &[u8]) -> Vec<u8> {
    let mut bytes = (first.len() as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(first);
    bytes.extend_from_slice(&[6; 32]);
    bytes.extend_from_slice(&3u64.to_le_bytes());
    bytes.extend_from_slice(&99u64.to_le_bytes());
    bytes
}

fn refs_child(birth: u64, pack: u8) -> Vec<u8> {
    [&birth.to_le_bytes()[..], &[pack; 32], &[6; 32]].concat()
}

pub fn page() -> Vec<Case> {
    let inputs = |kind: u8, level: u8, bytes: &[u8]| json!({ "page_kind": kind, "level": level, "bytes": hex(bytes) });
    let directory = |key: &[u8]| encoded(&plain(key, EntryKind::Directory));
    let hole = [&[2][..], &8192u64.to_le_bytes()].concat();
    let list_child = [&[6; 32][..], &99u64.to_le_bytes()].concat();
    let mut cases = Vec::new();
    for (name, kind, level, items) in [
        ("empty tree", 1, 0, vec![]),
        ("entries", 1, 0, vec![directory(b"files"), encoded(&full_file())]),
        ("children of a tree", 1, 1, vec![tree_child(b"files"), tree_child(b"files\0b")]),
        ("list", 2, 0, vec![hole.clone(), hole.clone()]),
        ("children of a list", 2, 16, vec![list_child.clone(), list_child.clone()]),
        ("references", 3, 0, vec![reference(1, 2, &[(0, 1)]), reference(2, 1, &[(3, 4)])]),
        (
            "two packs of one birth",
            3,
            0,
            vec![reference(1, 1, &[(0, 1)]), reference(1, 2, &[(0, 0)])],
        ),
        ("children of references", 3, 1, vec![refs_child(1, 2), refs_child(2, 1)]),
        ("births sort as numbers", 3, 1, vec![refs_child(0xff, 1), refs_child(0x100, 1)]),
    ] {
        let bytes = page_bytes(kind, level, &items);
        cases.push(ok("page", name, inputs(kind, level, &bytes), json!({})));
    }
    let mut bad = |rule, name: &str, kind: u8, level: u8, bytes: &[u8]| {
        cases.push(reject("page", rule, name, inputs(kind, level, bytes), json!({})));
    };
    let good = page_bytes(1, 0, &[directory(b"files")]);
    bad("PAGE-1", "of kind list", 1, 0, &page_bytes(2, 0, &[]));
    bad("PAGE-1", "of another level", 1, 0, &page_bytes(1, 1, &[tree_child(b"files")]));
    bad("PAGE-1", "byte 2 is not zero", 1, 0, &[1, 0, 1, 0, 0, 0, 0, 0]);
    bad("PAGE-2", "cut within the header", 1, 0, &good[..7]);
    bad("PAGE-2", "cut within an entry", 1, 0, &good[..good.len() - 1]);
    bad("PAGE-2", "byte behind the last item", 1, 0, &[&good[..], &[0]].concat());
    bad("PAGE-2", "count of 2^32 - 1", 1, 0, &[1, 0, 0, 0, 255, 255, 255, 255]);
    bad(
        "PAGE-3",
        "entries not sorted",
        1,
        0,
        &page_bytes(1, 0, &[directory(b"b"), directory(b"a")]),
    );
    bad("PAGE-3", "entries repeat", 1, 0, &page_bytes(1, 0, &[directory(b"a"), directory(b"a")]));
    let below = [directory(b"files\x01"), directory(b"files\0a")];
    bad("PAGE-3", "a child behind its parent's neighbour", 1, 0, &page_bytes(1, 0, &below));
    let children = [tree_child(b"b"), tree_child(b"a")];
    bad("PAGE-3", "children not sorted", 1, 1, &page_bytes(1, 1, &children));
    let repeated = [reference(1, 1, &[(0, 0)]), reference(1, 1, &[(2, 2)])];
    bad("PAGE-3", "references of a pack repeat", 3, 0, &page_bytes(3, 0, &repeated));
    let unsorted = [refs_child(0x100, 1), refs_child(0xff, 1)];
    bad("PAGE-3", "births sorted as bytes", 3, 1, &page_bytes(3, 1, &unsorted));
    for (kind, name) in [(1, "tree"), (2, "list"), (3, "references")] {
        let name = format!("{name} above a leaf without children");
        bad("PAGE-4", &name, kind, 1, &page_bytes(kind, 1, &[]));
    }
    bad(
        "ENT-1",
        "child with a key that no path has",
        1,
        1,
        &page_bytes(1, 1, &[tree_child(b"a/b")]),
    );
    cases.extend(cuts());
    cases
}

fn cuts() -> Vec<Case> {
    let keys = json!({ "cut": hex(&[0x31; 32]), "id": hex(&[0x32; 32]) });
    let mut cases = Vec::new();
    for (name, kind, count) in [
        ("tree of nothing", 1, 0),
        ("tree of a few files", 1, 10),
        ("tree of 3,000 files", 1, 3_000),
        ("list of 30,000 chunks", 2, 30_000),
        ("references to 4,000 packs", 3, 4_000),
    ] {
        let inputs = json!({ "page_kind": kind, "count": count });
        cases.push(ok("page_cut", name, inputs, keys.clone()));
    }
    cases
}
