//! Copies to repositories that are none of a profile's own.

use std::fs;

use super::{Machine, SOURCES};

fn with_copy(promises: &str) -> Machine {
    let machine = Machine::new(&format!(
        "[profiles.web]
        repositories = ['one']
        {promises}
        copy = [{{ to = 'two' }}]
        {SOURCES}"
    ));
    machine.write("dump", "rows\n-- end\n");
    machine
}

/// It takes none itself: its copies are those of all hosts and profiles.
#[test]
fn a_maintenance_profile_copies_what_others_took() {
    let machine = Machine::new(
        "[profiles.web]
        repositories = ['one']
        sources = [{ paths = ['BASE/tree'] }]
        [profiles.mail]
        repositories = ['one']
        sources = [{ paths = ['BASE/config'] }]
        [profiles.care]
        kind = 'maintenance'
        repositories = ['one']
        copy = [{ to = 'two' }]",
    );
    machine.ok(&["run", "web", "mail", "care"]);
    assert_eq!(machine.snapshots("two"), ["complete"; 2]);
    // newer ones of each, whatever came of the other meanwhile
    machine.ok(&["run", "web", "care"]);
    assert_eq!(machine.snapshots("two"), ["complete"; 3]);
    machine.ok(&["run", "mail", "care"]);
    assert_eq!(machine.snapshots("two"), ["complete"; 4]);
}

#[test]
fn what_was_too_damaged_to_be_copied_is_told_until_it_is_there() {
    let machine = with_copy("");
    fs::rename(machine.path("two"), machine.path("two-away")).unwrap();
    machine.run(&["run", "web"]);
    fs::rename(machine.path("two-away"), machine.path("two")).unwrap();
    machine.damage("one");
    for night in 0..2 {
        machine.write("tree/file", &format!("night {night}"));
        let ran = machine.ends(20, &["run", "web"]);
        assert!(ran.err.contains("damage"), "{}", ran.err);
    }
}

#[test]
fn a_removable_disk_for_copies_may_be_away_while_its_promise_holds() {
    let machine = with_copy("promises = { maximum_age = '1d' }");
    let (two, away) = (machine.path("two"), machine.path("two-away"));
    fs::rename(&two, &away).unwrap();
    // it was never there
    assert!(machine.run(&["run", "web"]).code != 0);
    fs::rename(&away, &two).unwrap();
    machine.ok(&["run", "web"]);
    assert_eq!(machine.snapshots("two").len(), 2);
    fs::rename(&two, &away).unwrap();
    let ran = machine.ok(&["run", "web"]);
    assert!(ran.err.contains("repository two is away"), "{}", ran.err);
    machine.ok(&["status"]);
}
