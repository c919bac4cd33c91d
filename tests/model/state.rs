//! One moment: the store, and how far everybody is.

use super::backup::{self, Backup};
use super::configuration::Configuration;
use super::maintainer::{self, Maintainer};
use super::store::{BACKUPS, MAINTAINERS, S0, Store, bits, snapshot_of};
use super::user::{self, User};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub store: Store,
    pub user: User,
    pub backups: [Backup; BACKUPS],
    pub maintainers: [Maintainer; MAINTAINERS],
}

#[derive(Clone, Copy, Debug)]
pub enum Actor {
    User,
    Backup(usize),
    Maintainer(usize),
    Anyone,
    Store,
}

/// What somebody can do next, and what comes of it.
pub struct Next {
    pub actor: Actor,
    pub step: &'static str,
    pub state: State,
}

impl State {
    pub fn new() -> State {
        State {
            store: Store::new(),
            user: User::Content,
            backups: [Backup::new(); BACKUPS],
            maintainers: [Maintainer::new(); MAINTAINERS],
        }
    }

    /// Everything that can happen next.
    pub fn next(&self, configuration: &Configuration, next: &mut Vec<Next>) {
        if configuration.undo {
            user::steps(self, configuration, next);
        }
        for at in 0..configuration.backups {
            backup::steps(self, at, configuration, next);
        }
        for at in 0..configuration.maintainers {
            maintainer::steps(self, at, configuration, next);
        }
        maintainer::plans_done(self, configuration, next);
        if configuration.damage && self.user == User::Forgot {
            self.losses(next);
        }
    }

    /// What the protocol cannot prevent: the store loses a pack.
    fn losses(&self, next: &mut Vec<Next>) {
        for pack in bits(self.store.packs) {
            let mut state = *self;
            state.store.packs &= !(1 << pack);
            next.push(Next { actor: Actor::Store, step: "loses a pack", state });
        }
    }

    /// Looks for a broken promise, and says which.
    ///
    /// What was reported good can be restored: its manifest and confirmation are
    /// there, and all it needs lies in packs that exist and are indexed. And
    /// what is listed with a confirmation can be restored, reported or not, also
    /// while it is about to go; a store that loses packs can keep only the first.
    pub fn broken(&self, configuration: &Configuration) -> Option<Broken> {
        let store = &self.store;
        let listed = if configuration.listed { store.manifests & store.confirmed } else { 0 };
        let lost = bits(listed.into()).find(|at| !store.is_restorable(*at));
        let fault = |snapshot: usize| {
            let is_listed = store.manifests & store.confirmed & 1 << snapshot != 0;
            !is_listed || !store.is_restorable(snapshot)
        };
        let old = (self.user == User::Content).then_some(S0);
        let new = self.backups.iter().enumerate().filter(|(_, backup)| backup.is_good());
        let new = new.map(|(at, backup)| snapshot_of(at, backup.manifest));
        let reported = old.into_iter().chain(new).find(|at| fault(*at)).map(Broken::ReportedGood);
        reported.or(lost.map(Broken::Listed))
    }
}

/// A snapshot that cannot be restored, though
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    ReportedGood(usize),
    Listed(usize),
}
