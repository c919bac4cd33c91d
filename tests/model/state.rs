//! One moment: the store, and how far everybody is.

use super::backup::{self, Backup};
use super::configuration::Configuration;
use super::maintainer::{self, Maintainer};
use super::store::{BACKUPS, MAINTAINERS, S0, Store, snapshot_of};
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
    }

    /// The first snapshot that was reported good and is not.
    pub fn broken(&self) -> Option<usize> {
        let old = (self.user == User::Content).then_some(S0);
        let new = self.backups.iter().enumerate().filter(|(_, backup)| backup.is_good());
        let new = new.map(|(at, backup)| snapshot_of(at, backup.manifest));
        old.into_iter().chain(new).find(|snapshot| !self.store.is_good(*snapshot))
    }
}
