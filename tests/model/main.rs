//! The protocol of `format-spec/13-protocol.md`, explored: every interleaving of
//! backups, forget and undo, prunes, take-overs and index merges.
//!
//! Each operation on the store is one step, and at any moment any actor may take
//! its next one. Nobody has to: an actor that crashed is one that takes no further
//! step, and every state is also the state after such a crash. There are no clocks.
//! Whatever waits for time in truth (grace, the silence of a run) may happen at any
//! moment here, so safety cannot rest on it.
//!
//! What is promised is in [`state::State::broken`], and is looked at in every state.
//! What is left out, because safety does not rest on it: sessions and what they
//! spare, revocation, the copying of single blocks in B5 (a backup starts again),
//! and which of several manifests of one run is shown.
//!
//! A model that finds nothing may be blind. So each step can be left out
//! ([`configuration::Omission`]), and the tests below say of each what comes of it.

mod backup;
mod configuration;
mod explore;
mod maintainer;
mod state;
mod store;
mod trace;
mod user;

use configuration::Configuration;
use configuration::Omission::{self, *};
use explore::explore;

/// Explores, prints how many states there are, and fails with the way to a
/// violation.
fn holds(configuration: Configuration) {
    let outcome = explore(&configuration);
    if let Some(way) = outcome.violation {
        panic!("{configuration}: violated\n{}", way.join("\n"));
    }
    println!("{configuration}: {} states, holds", outcome.states);
}

fn is_long() -> bool {
    std::env::var("ESKER_TEST_LONG").as_deref() == Ok("yes")
}

#[test]
fn one_backup_and_two_maintainers() {
    holds(Configuration::new(1, 2).merging());
}

#[test]
fn two_backups_and_one_maintainer() {
    holds(Configuration::new(2, 1).undo().manifests(3));
}

#[test]
fn two_maintainers_and_an_undo() {
    holds(Configuration::new(0, 2).undo().merging());
}

#[test]
fn one_backup_and_a_maintainer_who_prunes_twice() {
    holds(Configuration::new(1, 1).undo().merging().rounds([2, 1]));
}

/// The big ones, one after the other, so that they fit into memory (less than 5 GB).
#[test]
fn long() {
    if is_long() {
        holds(Configuration::new(0, 2).undo().merging().rounds([2, 1]));
        holds(Configuration::new(1, 2).undo());
        // a run that cannot commit at once gives up: with another try the states
        // do not fit into memory
        holds(Configuration::new(2, 2).manifests(1));
    }
}

const ONE_OF_EACH: Configuration = Configuration::new(1, 1).undo();
const MERGES: Configuration = Configuration::new(1, 1).undo().merging();
const UNDO: Configuration = Configuration::new(0, 1).undo();
const TWO_MAINTAINERS: Configuration = Configuration::new(0, 2).undo().merging();
const BACKUP_BESIDE_TWO: Configuration = Configuration::new(1, 2).merging();
const DAMAGE: Configuration = Configuration::new(0, 1).undo().damage();
const PRUNES_TWICE: Configuration = Configuration::new(1, 1).merging().rounds([2, 1]);

/// What must not be left out: a snapshot that was reported good would be lost.
/// Each with a small configuration that shows it.
const NEEDED: &[(&[Omission], Configuration)] = &[
    (&[NoCheck], ONE_OF_EACH),
    (&[CheckWithoutSweeps], ONE_OF_EACH),
    (&[CheckBeforeManifest], ONE_OF_EACH),
    (&[CheckSweepsLast], ONE_OF_EACH),
    (&[NoLookAfterConfirmation], ONE_OF_EACH),
    (&[LookWithoutSweeps], ONE_OF_EACH),
    (&[LookForSweepsOnly], ONE_OF_EACH),
    (&[LookForSweepsLast], ONE_OF_EACH),
    (&[BlindUndo], UNDO),
    (&[UndoWithoutSweeps], UNDO),
    (&[UndoSweepsLast], UNDO),
    (&[UndoWithoutManifest], UNDO),
    (&[ListBeforeSweep], UNDO),
    (&[NoMarksAgain], UNDO),
    (&[NoSnapshotsAgain], ONE_OF_EACH),
    (&[NoSweepsAgain], TWO_MAINTAINERS),
    (&[PruneSweepsLast], TWO_MAINTAINERS),
    (&[PruneForgetsPages], ONE_OF_EACH),
    (&[RepackIndexedLate], UNDO),
    (&[ForeignPlanRemoval], ONE_OF_EACH),
    (&[ForeignSweep], TWO_MAINTAINERS),
    (&[SupersededBeforeMerged], MERGES),
    // nothing in the protocol takes a pack from an undone snapshot that still
    // stands and is in no plan; but then undo would say *recovered* of damage
    (&[UndoWithoutPacks], DAMAGE),
    (&[UndoForgetsPages], DAMAGE),
    (&[IndexIsExistence], DAMAGE),
    // in a store that loses nothing too: who listed the removing segment, and reads
    // it after it was superseded and deleted, believes in a pack that is gone.
    // (SupersededAtOnce only stands for a third run, to keep the example small.)
    (&[IndexIsExistence, PacksBeforeRemoving], ONE_OF_EACH),
    (&[IndexIsExistence, SupersededAtOnce], PRUNES_TWICE),
];

/// What safety does not rest on: it saves work, or is the second of two nets.
const SPARE: &[&[Omission]] = &[
    // the backup finds out in B4 and has to start again
    &[ReuseCondemned],
    // a manifest that stays because it was confirmed meanwhile was there before
    &[SnapshotsBeforeMarks],
    // what is indexed and should not be does not exist, or a plan names it
    &[PacksBeforeRemoving],
    &[MergeForgetsRemoves],
    // a confirmation without a manifest counts for nothing; but after a crash no
    // later prune would find it
    &[ManifestsBeforeConfirmations],
    // who listed a segment and finds it gone misses packs that are there: a backup
    // starts again, an undo is late, a prune keeps more
    &[SupersededAtOnce],
    // what was gone already is superseded by another that lists the same
    &[MergeSupersedesUnread],
    // where the store loses nothing, see above
    &[UndoWithoutPacks],
    &[UndoForgetsPages],
];

#[test]
fn each_needed_step_is_missed() {
    for (without, configuration) in NEEDED {
        is_caught(configuration.reported_only().without(without));
    }
}

/// Nothing reported good is lost by it; but a forgotten snapshot whose manifest
/// outlives its packs looks like damage.
#[test]
fn packs_go_after_manifests() {
    is_caught(UNDO.without(&[PacksBeforeManifests]));
    holds(ONE_OF_EACH.reported_only().without(&[PacksBeforeManifests]));
}

/// Prints the way to a violation, and fails if there is none.
fn is_caught(configuration: Configuration) {
    let outcome = explore(&configuration);
    let Some(way) = outcome.violation else {
        panic!("{configuration}: {} states, and nothing is missed", outcome.states);
    };
    println!("{configuration}: caught after {} steps\n{}\n", way.len() - 1, way.join("\n"));
}

#[test]
fn spare_steps_are_spare() {
    for without in SPARE {
        for configuration in [MERGES, TWO_MAINTAINERS, PRUNES_TWICE] {
            holds(configuration.without(without));
        }
        if is_long() {
            holds(BACKUP_BESIDE_TWO.without(without));
        }
    }
}

/// A store that loses packs breaks nothing that is reported good afterwards.
#[test]
fn damage_is_seen() {
    holds(DAMAGE);
}
