//! Every safety step left out, and the loss found: a simulator that could not
//! find it would prove nothing.

use crate::interleavings::tell;
use crate::run::{Plot, Ran, alone, run};
use crate::sabotage::Sabotage;

/// How many seeds are tried before a step counts as needless.
const TRIES: u64 = 4000;

fn loses(seed: u64, sabotage: Sabotage) -> Option<Ran> {
    let ran = run(seed, Plot::sabotaged(seed, sabotage));
    let lost = ran.wrong.as_ref().is_some_and(|wrong| wrong.starts_with("lost"));
    lost.then_some(ran)
}

/// `known` is a seed that found the loss; when it does not any more, others are
/// tried.
fn check(sabotage: Sabotage, known: u64) {
    let _alone = alone();
    let found = std::iter::once(known)
        .chain(0..TRIES)
        .find_map(|seed| loses(seed, sabotage).map(|ran| (seed, ran)));
    let Some((seed, ran)) = found else {
        panic!("without a step, {sabotage:?}, nothing was lost in {TRIES} runs")
    };
    // with the step all is well: it is the omission that loses
    let honest = run(seed, Plot::sabotaged(seed, sabotage).honest());
    assert_eq!(honest.wrong, None, "{sabotage:?}, seed {seed}, with the step");
    if seed != known {
        tell(seed, &ran);
        println!("{sabotage:?}: seed {seed} finds {}", ran.wrong.unwrap_or_default());
    }
}

#[test]
fn a_backup_that_does_not_list_plans() {
    check(Sabotage::NoPlanListing, 0);
}

#[test]
fn a_backup_that_looks_before_it_puts_its_manifest() {
    check(Sabotage::CheckBeforeManifest, 6);
}

#[test]
fn a_backup_that_takes_the_index_for_existence() {
    check(Sabotage::IndexIsExistence, 73);
}

#[test]
fn a_backup_that_does_not_look_after_it_confirmed() {
    check(Sabotage::NoLookAfterConfirm, 36);
}

#[test]
fn a_backup_that_does_not_list_plans_after_it_confirmed() {
    check(Sabotage::NoPlanLookAfterConfirm, 36);
}

#[test]
fn a_prune_that_does_not_list_manifests_again() {
    check(Sabotage::NoSnapshotRelist, 6);
}

#[test]
fn a_prune_that_does_not_list_confirmations_and_marks_again() {
    check(Sabotage::NoConfirmRelist, 0);
}

#[test]
fn a_prune_that_does_not_list_plans_again() {
    check(Sabotage::NoPlanRelist, 352);
}

#[test]
fn somebody_who_removes_plans_of_others() {
    check(Sabotage::ForeignPlanRemoval, 143);
}

#[test]
fn an_undo_that_does_not_look() {
    check(Sabotage::BlindUndo, 3);
}
