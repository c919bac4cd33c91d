//! The protocol with one safety step left out. The library has no switch for
//! that: what a step would have seen is hidden from it, or shown as it was
//! before, by the store of the actor concerned.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker::store::Listed;

/// Names as in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A backup does not see what plans name before it confirms.
    NoPlanListing,
    /// A backup looks first and puts the manifest afterwards.
    CheckBeforeManifest,
    /// A backup takes packs that its index tells of for existing, and looks at
    /// nothing anew: segments that remove packs are never forgotten, so that the
    /// newest index alone would do.
    IndexIsExistence,
    /// A backup does not look again after it confirmed.
    NoLookAfterConfirm,
    /// A backup does not list plans again after it confirmed.
    NoPlanLookAfterConfirm,
    /// A prune does not list manifests again after it announced.
    NoSnapshotRelist,
    /// A prune does not list confirmations and marks again.
    NoConfirmRelist,
    /// A prune does not list other plans again.
    NoPlanRelist,
    /// Somebody removes plans that are not his.
    ForeignPlanRemoval,
    /// An undo does not look at all.
    BlindUndo,
}

/// Whose step is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Backup,
    Prune,
    Undo,
    /// Nobody's: somebody else does what he must not.
    None,
}

/// What the sabotage of one life remembers.
#[derive(Default)]
pub struct Memory {
    /// Listings before a plan was announced, until they were shown once more.
    before: BTreeMap<String, Vec<Listed>>,
    /// The plan of its own that is announced.
    announced: Option<String>,
    confirmed: bool,
    held_back: Option<(String, Bytes)>,
}

impl Memory {
    pub fn deleted(&mut self, key: &str) {
        if self.announced.as_deref() == Some(key) {
            self.announced = None;
        }
    }
}

impl Sabotage {
    pub fn victim(self) -> Victim {
        match self {
            Sabotage::NoPlanListing
            | Sabotage::CheckBeforeManifest
            | Sabotage::IndexIsExistence
            | Sabotage::NoLookAfterConfirm
            | Sabotage::NoPlanLookAfterConfirm => Victim::Backup,
            Sabotage::NoSnapshotRelist | Sabotage::NoConfirmRelist | Sabotage::NoPlanRelist => {
                Victim::Prune
            }
            Sabotage::ForeignPlanRemoval => Victim::None,
            Sabotage::BlindUndo => Victim::Undo,
        }
    }

    /// What to put, in order, when `object` is to be put.
    pub fn put(self, memory: &mut Memory, key: &str, object: Bytes) -> Vec<(String, Bytes)> {
        if key.starts_with("sweeps/") {
            memory.announced = Some(key.to_owned());
        }
        if self == Sabotage::CheckBeforeManifest && key.starts_with("snapshots/") {
            memory.held_back = Some((key.to_owned(), object));
            return Vec::new();
        }
        if key.starts_with("confirmed/") {
            memory.confirmed = true;
        }
        if self == Sabotage::IndexIsExistence && key.starts_with("index/") {
            let own = Listed { key: key.to_owned(), length: object.len() as u64 };
            memory.before.entry("index/".to_owned()).or_default().push(own);
        }
        // the next put is that of the confirmation, if the look found all there
        let held_back = memory.held_back.take().filter(|_| memory.confirmed);
        held_back.into_iter().chain([(key.to_owned(), object)]).collect()
    }

    /// Whether an object counts as existing without a look.
    pub fn takes_for_there(self, memory: &Memory, key: &str) -> bool {
        let is_asked = key.starts_with("snapshots/") || key.starts_with("confirmed/");
        match self {
            Sabotage::NoLookAfterConfirm => memory.confirmed && is_asked,
            Sabotage::BlindUndo => is_asked,
            _ => false,
        }
    }

    /// What a listing shows.
    pub fn list(
        self,
        memory: &mut Memory,
        prefix: &str,
        listed: Vec<Listed>,
        ever: &BTreeMap<String, u64>,
    ) -> Vec<Listed> {
        let all_ever = || {
            let under = ever.range(prefix.to_owned()..);
            let under = under.take_while(|(key, _)| key.starts_with(prefix));
            under.map(|(key, length)| Listed { key: key.clone(), length: *length }).collect()
        };
        match (self, prefix) {
            (Sabotage::NoPlanListing, "sweeps/") if !memory.confirmed => Vec::new(),
            (Sabotage::NoLookAfterConfirm | Sabotage::NoPlanLookAfterConfirm, "sweeps/")
                if memory.confirmed =>
            {
                Vec::new()
            }
            (Sabotage::IndexIsExistence, "packs/") => all_ever(),
            (Sabotage::IndexIsExistence, "index/") => {
                memory.before.entry(prefix.to_owned()).or_insert(listed).clone()
            }
            (Sabotage::BlindUndo, "sweeps/") => Vec::new(),
            (Sabotage::BlindUndo, "packs/") => all_ever(),
            (Sabotage::NoPlanRelist, "sweeps/") if memory.announced.is_some() => {
                listed.into_iter().filter(|l| Some(&l.key) == memory.announced.as_ref()).collect()
            }
            (Sabotage::NoSnapshotRelist, "snapshots/")
            | (Sabotage::NoConfirmRelist, "confirmed/" | "marks/") => {
                if memory.announced.is_none() {
                    memory.before.insert(prefix.to_owned(), listed.clone());
                    return listed;
                }
                // what is listed after the second look is no part of it
                memory.before.remove(prefix).unwrap_or(listed)
            }
            _ => listed,
        }
    }
}
