//! What is exactly as it was: entries of one page of the previous tree that the
//! walk finds again, one after the other. If those are all of the page, it goes
//! into the new tree as it is.

use crate::format::content::{Content, Item};
use crate::format::entry::Entry;
use crate::format::pack::Coordinate;
use crate::repository::Result;
use crate::repository::known::{Known, Lookup};
use crate::repository::pages::PagePlace;

/// Neighbours on one page of the previous tree, as they were there.
pub struct Same {
    pub entries: Vec<Entry>,
    /// What they are made of.
    pub used: Vec<Coordinate>,
    /// Where the last of them lies.
    pub last: PagePlace,
}

impl Same {
    /// Whether these are all entries of the page.
    pub fn is_page(&self) -> bool {
        self.entries.len() == self.last.of
    }
}

/// Gathers them.
pub struct Gathering<'a> {
    lookup: Lookup<'a>,
    open: Option<Same>,
}

impl<'a> Gathering<'a> {
    pub fn new(known: &'a Known<'a>) -> Gathering<'a> {
        Gathering { lookup: Lookup::new(known), open: None }
    }

    /// Whether an entry at this place would be the next one, or the first.
    pub fn takes(&self, place: PagePlace) -> bool {
        match &self.open {
            Some(open) => open.last.page == place.page && open.last.at + 1 == place.at,
            None => place.at == 0,
        }
    }

    /// Adds an entry. Gives it back if not all it is made of is known, or that
    /// takes pages of its own to tell.
    pub fn add(&mut self, entry: Entry, place: PagePlace) -> Result<Option<Entry>> {
        let open = self.open.get_or_insert_with(|| Same {
            entries: Vec::with_capacity(place.of),
            used: Vec::with_capacity(place.of),
            last: place,
        });
        let before = open.used.len();
        let items = match &entry.content {
            Content::Empty | Content::Inline(_) => &[][..],
            Content::Items(items) => items,
            Content::List(_) => return Ok(Some(entry)),
        };
        for item in items {
            let Item::Chunk { id, .. } = item else { continue };
            let Some(coordinate) = self.lookup.find(id)? else {
                open.used.truncate(before);
                return Ok(Some(entry));
            };
            open.used.push(coordinate);
        }
        open.entries.push(entry);
        open.last = place;
        Ok(None)
    }

    /// Whether the page at hand came to its end.
    pub fn is_full(&self) -> bool {
        self.open.as_ref().is_some_and(Same::is_page)
    }

    /// What was gathered so far.
    pub fn take(&mut self) -> Option<Same> {
        self.open.take().filter(|same| !same.entries.is_empty())
    }
}
