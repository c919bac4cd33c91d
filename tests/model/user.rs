//! Somebody who forgets S0, and undoes it, as often as he likes.

use super::configuration::{Configuration, Omission};
use super::state::{Actor, Next, State};
use super::store::{Packs, S0, Segments, Toc};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum User {
    /// S0 was never forgotten, or is said to be recovered.
    Content,
    Forgot,
    /// Put the mark *undo*.
    U1,
    /// Listed sweeps: the packs they name.
    U2Sweeps {
        condemned: Packs,
    },
    /// Saw manifest and confirmation.
    U2Manifest {
        condemned: Packs,
    },
    U2Segments {
        condemned: Packs,
        listed: Segments,
    },
    /// Only where sweeps are listed last: the packs that stand, as far as known.
    U2Packs {
        stand: Packs,
    },
    /// Too late: S0, or something it needs, is gone or about to go.
    Late,
}

pub fn steps(state: &State, configuration: &Configuration, next: &mut Vec<Next>) {
    let omits = |omission| configuration.omits(omission);
    let store = &state.store;
    let mut go = |step, user| {
        let mut state = State { user, ..*state };
        state.store.forgotten = match user {
            User::Forgot => true,
            User::U1 => false,
            _ => store.forgotten,
        };
        next.push(Next { actor: Actor::User, step, state });
    };
    match state.user {
        User::Content => go("puts a mark forget", User::Forgot),
        User::Forgot => go("U1 puts a mark undo", User::U1),
        User::U1 if omits(Omission::BlindUndo) => go("U3 recovered, without U2", User::Content),
        User::U1 if omits(Omission::UndoWithoutSweeps) => {
            go("U2 does not list sweeps", User::U2Sweeps { condemned: 0 });
        }
        User::U1 if omits(Omission::UndoSweepsLast) => {
            if store.manifests & store.confirmed & 1 << S0 != 0 {
                let stand = store.packs & store.index(store.segments);
                go("U2 sees manifest, confirmation, packs", User::U2Packs { stand });
            } else {
                go("U2 misses manifest or confirmation", User::Late);
            }
        }
        User::U2Packs { stand } => {
            let needed = store.references[S0];
            let needed = Toc { data: needed, pages: needed };
            let held = store.held_by(stand & !store.condemned(None));
            if needed.is_within(held) && !store.is_doomed(S0) {
                go("U3 lists sweeps: recovered", User::Content);
            } else {
                go("U2 lists sweeps: something is about to go", User::Late);
            }
        }
        User::U1 if store.is_doomed(S0) => go("U2 lists sweeps: S0 is named", User::Late),
        User::U1 => {
            go("U2 lists sweeps", User::U2Sweeps { condemned: store.condemned(None) });
        }
        User::U2Sweeps { condemned } => {
            let there = store.manifests & store.confirmed & 1 << S0 != 0;
            if there || omits(Omission::UndoWithoutManifest) {
                go("U2 sees manifest and confirmation", User::U2Manifest { condemned });
            } else {
                go("U2 misses manifest or confirmation", User::Late);
            }
        }
        User::U2Manifest { .. } if omits(Omission::UndoWithoutPacks) => {
            go("U3 recovered, without a look for packs", User::Content);
        }
        User::U2Manifest { condemned } => {
            go("U2 lists segments", User::U2Segments { condemned, listed: store.segments });
        }
        User::U2Segments { condemned, listed } => {
            let needed = store.references[S0];
            let pages = if omits(Omission::UndoForgetsPages) { 0 } else { needed };
            let needed = Toc { data: needed, pages };
            let exist = if omits(Omission::IndexIsExistence) { !0 } else { store.packs };
            for read in store.readings(listed) {
                let held = store.held_by(store.index(read) & exist & !condemned);
                if needed.is_within(held) {
                    go("U3 reads segments, lists packs: recovered", User::Content);
                } else {
                    go("U2 reads segments, lists packs: something is gone", User::Late);
                }
            }
        }
        User::Late => go("U3 puts a mark forget again", User::Forgot),
    }
}
