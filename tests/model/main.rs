//! The commit protocol of `format-spec/13-protocol.md`, every interleaving of it.

mod backup;
mod configuration;
mod explore;
mod maintainer;
mod state;
mod store;
mod trace;
mod user;

use configuration::{Configuration, Omission};
use explore::explore;

/// Explores, prints how many states there are, and fails with the way to a
/// violation.
fn holds(configuration: Configuration) {
    let outcome = explore(&configuration);
    if let Some(way) = outcome.violation {
        panic!("{configuration:?}: violated\n{}", way.join("\n"));
    }
    println!("{configuration:?}: {} states, holds", outcome.states);
}

#[test]
fn probe() {
    let args = std::env::var("MODEL").unwrap();
    let mut it = args.split(' ');
    let mut n = || it.next().map(|x| x.parse::<usize>().unwrap()).unwrap();
    let mut c = Configuration::new(n(), n());
    c.undo = n() == 1;
    c.merging = n() == 1;
    c.rounds = n() as u8;
    c.manifests = n() as u8;
    let start = std::time::Instant::now();
    if let Some(name) = std::env::var("OMIT").ok() {
        for o in OMISSIONS {
            if name != "all" && format!("{o:?}") != name { continue; }
            let c = c.without(*o);
            let outcome = explore(&c);
            println!("{:?}: {} {:?} {}", o, outcome.states, outcome.violation.map(|w| if name == "all" { w.len().to_string() } else { w.join("\n") }).unwrap_or("HOLDS".into()), start.elapsed().as_secs());
        }
        return;
    }
    holds(c);
    println!("{:?}", start.elapsed());
}
const OMISSIONS: &[Omission] = &[
Omission::ReuseCondemned, Omission::NoCheck, Omission::CheckWithoutSweeps, Omission::CheckBeforeManifest, Omission::IndexIsExistence, Omission::NoLookAfterConfirmation, Omission::LookWithoutSweeps, Omission::LookForSweepsOnly, Omission::ListBeforeSweep, Omission::NoMarksAgain, Omission::NoSnapshotsAgain, Omission::NoSweepsAgain, Omission::PruneForgetsPages, Omission::RepackIndexedLate, Omission::PacksBeforeManifests, Omission::PacksBeforeRemoving, Omission::ManifestsBeforeConfirmations, Omission::SupersededAtOnce, Omission::SupersededBeforeMerged, Omission::MergeForgetsRemoves, Omission::MergeSupersedesUnread, Omission::ForeignPlanRemoval, Omission::ForeignSweep, Omission::BlindUndo, Omission::UndoWithoutSweeps, Omission::UndoWithoutManifest, Omission::UndoWithoutPacks, Omission::UndoForgetsPages, ];
