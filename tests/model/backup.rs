//! A backup. It reuses what it can; when something it reused is missing in B4 it
//! starts again as a new run.

use super::configuration::{Configuration, Omission};
use super::state::{Actor, Next, State};
use super::store::{
    Chunks, Packs, RUNS, Segments, Store, Toc, birth, pack_of_backup, snapshot_of, wanted,
};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backup {
    pub run: u8,
    /// Which of its manifests it is putting.
    pub manifest: u8,
    at: At,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    /// Begins; these packs were missing for the run before.
    B1 {
        missing: Packs,
    },
    B1Segments {
        missing: Packs,
        listed: Segments,
    },
    B2,
    B2Packs,
    B3,
    B4,
    B4Sweeps {
        condemned: Packs,
    },
    B4Segments {
        condemned: Packs,
        listed: Segments,
    },
    /// Only where sweeps are listed last: packs that stand, as far as known.
    B4Packs {
        indexed: Packs,
        exist: Packs,
    },
    B6,
    B7,
    B7Sweeps {
        doomed: bool,
    },
    /// Only where sweeps are listed last.
    B7Seen {
        there: bool,
    },
    Good,
    Failed,
}

impl Backup {
    pub fn new() -> Backup {
        Backup { run: 0, manifest: 0, at: At::B1 { missing: 0 } }
    }

    pub fn is_good(&self) -> bool {
        self.at == At::Good
    }
}

pub fn steps(state: &State, me: usize, configuration: &Configuration, next: &mut Vec<Next>) {
    let backup = state.backups[me];
    let store = &state.store;
    let omits = |omission| configuration.omits(omission);
    let pack = pack_of_backup(me, backup.run);
    let snapshot = snapshot_of(me, backup.manifest);
    let mut go = |step, backup: Backup, change: &dyn Fn(&mut Store)| {
        let mut state = *state;
        state.backups[me] = backup;
        change(&mut state.store);
        next.push(Next { actor: Actor::Backup(me), step, state });
    };
    let nothing = |_: &mut Store| {};
    let at = |at| Backup { at, ..backup };
    let check_first = omits(Omission::CheckBeforeManifest);
    match backup.at {
        At::B1 { missing } => {
            let listed = store.segments;
            go("B1 lists segments", at(At::B1Segments { missing, listed }), &nothing);
        }
        At::B1Segments { missing, listed } => {
            let reuses = omits(Omission::ReuseCondemned);
            let condemned = if reuses { 0 } else { store.condemned(None) };
            for read in store.readings(listed) {
                let usable = store.index(read) & !condemned & !missing;
                let (references, new) = choose(store, me, backup.run, usable);
                let then = match (new.is_empty(), check_first) {
                    (false, _) => At::B2,
                    (true, false) => At::B3,
                    (true, true) => At::B4,
                };
                go("B1 reads segments, lists sweeps", at(then), &|store| {
                    store.references[snapshot] = references;
                    store.tocs[pack] = new;
                });
            }
        }
        At::B2 => go("B2 puts a pack", at(At::B2Packs), &|store| store.packs |= 1 << pack),
        At::B2Packs => {
            let then = if check_first { At::B4 } else { At::B3 };
            go("B2 puts a segment", at(then), &|store| store.segments |= 1 << pack);
        }
        At::B3 => {
            let then = match (check_first, omits(Omission::NoCheck)) {
                (false, false) => At::B4,
                _ => At::B6,
            };
            go("B3 puts the manifest", at(then), &|store| store.manifests |= 1 << snapshot);
        }
        At::B4 if omits(Omission::CheckSweepsLast) => {
            let (indexed, exist) = (store.index(store.segments), store.packs);
            go("B4 reads segments, lists packs", at(At::B4Packs { indexed, exist }), &nothing);
        }
        At::B4Packs { indexed, exist } => {
            let needed = store.references[snapshot];
            let needed = Toc { data: needed, pages: needed };
            let stand = indexed & exist & !store.condemned(None);
            if needed.is_within(store.held_by(stand)) {
                go("B4 lists sweeps: all there", at(At::B6), &nothing);
            } else {
                let again = backup.start_again(indexed & !stand, configuration);
                go("B4 lists sweeps: something is missing", again, &nothing);
            }
        }
        At::B4 => {
            let blind = omits(Omission::CheckWithoutSweeps);
            let condemned = if blind { 0 } else { store.condemned(None) };
            go("B4 lists sweeps", at(At::B4Sweeps { condemned }), &nothing);
        }
        At::B4Sweeps { condemned } => {
            let listed = store.segments;
            go("B4 lists segments", at(At::B4Segments { condemned, listed }), &nothing);
        }
        At::B4Segments { condemned, listed } => {
            let needed = store.references[snapshot];
            let needed = Toc { data: needed, pages: needed };
            let exist = if omits(Omission::IndexIsExistence) { !0 } else { store.packs };
            let then = if check_first { At::B3 } else { At::B6 };
            for read in store.readings(listed) {
                let indexed = store.index(read);
                let stand = indexed & exist & !condemned;
                if needed.is_within(store.held_by(stand)) {
                    go("B4 reads segments, lists packs: all there", at(then), &nothing);
                    continue;
                }
                let again = backup.start_again(indexed & !stand, configuration);
                go("B4 reads segments, lists packs: something is missing", again, &nothing);
            }
        }
        At::B6 => {
            let unseen = omits(Omission::NoLookAfterConfirmation);
            let then = if unseen { At::Good } else { At::B7 };
            go("B6 puts the confirmation", at(then), &|store| store.confirmed |= 1 << snapshot);
        }
        At::B7 if omits(Omission::LookForSweepsLast) => {
            let there = store.manifests & store.confirmed & 1 << snapshot != 0;
            go("B7 looks for manifest and confirmation", at(At::B7Seen { there }), &nothing);
        }
        At::B7Seen { there } => {
            let good = there && !store.is_doomed(snapshot);
            let then = if good { At::Good } else { At::Failed };
            go("B7 lists sweeps", at(then), &nothing);
        }
        At::B7 => {
            let doomed = store.is_doomed(snapshot) && !omits(Omission::LookWithoutSweeps);
            go("B7 lists sweeps", at(At::B7Sweeps { doomed }), &nothing);
        }
        At::B7Sweeps { doomed } => {
            let there = store.manifests & store.confirmed & 1 << snapshot != 0;
            if !doomed && (there || omits(Omission::LookForSweepsOnly)) {
                go("B7 sees manifest and confirmation: good", at(At::Good), &nothing);
            } else {
                let references = store.references[snapshot];
                let (again, other) = backup.replace(me, configuration);
                go("B7 finds the snapshot named or gone", again, &|store| {
                    if let Some(other) = other {
                        store.references[other] = references;
                    }
                });
            }
        }
        At::Good | At::Failed => {}
    }
}

impl Backup {
    /// A new run, which counts these packs as absent.
    fn start_again(self, missing: Packs, configuration: &Configuration) -> Backup {
        let (run, manifest) = (self.run + 1, self.manifest + 1);
        if usize::from(run) < RUNS && manifest < configuration.manifests {
            Backup { run, manifest, at: At::B1 { missing } }
        } else {
            Backup { at: At::Failed, ..self }
        }
    }

    /// A new manifest of the same references, under a new id.
    fn replace(self, me: usize, configuration: &Configuration) -> (Backup, Option<usize>) {
        let manifest = self.manifest + 1;
        if manifest < configuration.manifests {
            (Backup { manifest, at: At::B3, ..self }, Some(snapshot_of(me, manifest)))
        } else {
            (Backup { at: At::Failed, ..self }, None)
        }
    }
}

/// The references of a snapshot that relies on these packs, and what its own pack
/// must hold: chunks and pages that are in none of them.
fn choose(store: &Store, me: usize, run: u8, usable: Packs) -> (Chunks, Toc) {
    let held = store.held_by(usable);
    let mut references = 0;
    let mut new = Toc::default();
    for chunk in wanted(me) {
        let known = chunk & held.data;
        let born = birth(me, run, *chunk);
        if known == 0 {
            new.data |= born;
        }
        // the oldest coordinate of several
        references |= if known == 0 { born } else { known & known.wrapping_neg() };
    }
    new.pages = references & !held.pages;
    (references, new)
}
