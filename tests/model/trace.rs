//! A way through the states, in words.

use super::configuration::Configuration;
use super::state::{Actor, Broken, Next, State};
use super::store::{
    MAINTAINERS, MANIFESTS, OLD_DATA, OLD_PAGES, ROUNDS, RUNS, S0, Store, bits, pack_of_backup,
    pack_of_round, removing_segment,
};

/// One step, and what it changed in the store.
pub fn line(before: &State, next: &Next) -> String {
    let actor = match next.actor {
        Actor::User => "user".into(),
        Actor::Backup(at) => format!("backup {}", at + 1),
        Actor::Maintainer(at) => format!("maintainer {}", at + 1),
        Actor::Anyone => "anyone".into(),
        Actor::Store => "store".into(),
    };
    let changes = changes(&before.store, &next.state.store).join(" ");
    format!("{actor:12}  {:50}  {changes}", next.step).trim_end().into()
}

/// What is wrong in the end.
pub fn complaint(state: &State, configuration: &Configuration) -> String {
    match state.broken(configuration) {
        Some(Broken::ReportedGood(at)) => format!("{} was reported good, and is not", snapshot(at)),
        Some(Broken::Listed(at)) => format!("{} is listed and cannot be restored", snapshot(at)),
        None => "nothing is wrong".into(),
    }
}

fn changes(before: &Store, after: &Store) -> Vec<String> {
    let mut words = Vec::new();
    let mut compare = |kind: &str, before: u16, after: u16, name: &dyn Fn(usize) -> String| {
        words.extend(bits(after & !before).map(|at| format!("+{kind}/{}", name(at))));
        words.extend(bits(before & !after).map(|at| format!("-{kind}/{}", name(at))));
    };
    compare("packs", before.packs, after.packs, &pack);
    compare("index", before.segments, after.segments, &segment);
    compare("snapshots", before.manifests.into(), after.manifests.into(), &snapshot);
    compare("confirmed", before.confirmed.into(), after.confirmed.into(), &snapshot);
    for at in 0..MAINTAINERS {
        let (before, after) = (before.sweeps[at], after.sweeps[at]);
        compare(&format!("sweeps/T{}", at + 1), before.packs, after.packs, &pack);
        let (before, after) = (before.manifests.into(), after.manifests.into());
        compare(&format!("sweeps/T{}", at + 1), before, after, &snapshot);
    }
    words
}

fn snapshot(at: usize) -> String {
    match at {
        S0 => "S0".into(),
        _ => format!("S{}.{}", (at - 1) / MANIFESTS + 1, (at - 1) % MANIFESTS + 1),
    }
}

fn pack(at: usize) -> String {
    let backups = pack_of_backup(0, 0);
    let rounds = pack_of_round(0, 0);
    match at {
        OLD_DATA => "old-data".into(),
        OLD_PAGES => "old-pages".into(),
        _ if at < rounds => format!("B{}.{}", (at - backups) / RUNS + 1, (at - backups) % RUNS + 1),
        _ => format!("Q{}.{}", (at - rounds) / ROUNDS + 1, (at - rounds) % ROUNDS + 1),
    }
}

fn segment(at: usize) -> String {
    match at.checked_sub(removing_segment(0, 0)) {
        Some(at) => format!("removing-{}.{}", at / ROUNDS + 1, at % ROUNDS + 1),
        None => pack(at),
    }
}
