//! A round of drills covers every pack that is in use, while others come and go.

use std::collections::BTreeSet;

use esker::drill::ROUND;

use super::home::{Home, files};
use super::{drill, last_log, noise, one, recorded, texts};

/// Ids of all packs in the repository.
fn packs(home: &Home) -> BTreeSet<String> {
    let all = files(&home.repository().join("packs"));
    all.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_round_covers_what_stays_while_packs_come_and_go() {
    let home = Home::new();
    let night = |number: u64, length: usize| {
        home.write(&format!("tree/night{number}"), &noise(number, length));
        home.ok(&["backup", "tree"]);
    };
    (0..10).for_each(|number| night(number, 5 << 20));
    let before = packs(&home);
    let mut covered = BTreeSet::new();
    let mut told = Vec::new();
    for number in 0..ROUND {
        let run = drill(&home, &["--files", "1"]);
        assert_eq!(run.code, 0, "{}", run.err);
        let summary = one(&run, "summary");
        let now = texts(&summary["covered"]);
        if number == 0 {
            // else one drill would be a round
            assert!(now.len() < before.len(), "{summary}");
            assert_eq!(summary["packs"], before.len());
            let missed = before.len() - now.len();
            let text = format!("{missed} of {} packs were not read", before.len());
            assert!(texts(&summary["not_covered"]).contains(&text.as_str()), "{summary}");
            assert!(last_log(&home).contains(&format!("not covered: {text}")));
        }
        told.push((now.len(), summary["packs"].clone()));
        covered.extend(now.into_iter().map(str::to_owned));
        // one comes, one goes
        night(100 + number, 500 << 10);
        if number % 4 == 0 {
            std::fs::remove_file(home.path(&format!("tree/night{number}"))).unwrap();
            home.ok(&["backup", "tree"]);
            home.ok(&["forget", "--keep-last", "2", "--prune", "--grace", "0", "--yes"]);
        }
    }
    home.ok(&["forget", "--keep-last", "1", "--prune", "--grace", "0", "--yes"]);
    let now = packs(&home);
    let stayed: BTreeSet<String> = before.intersection(&now).cloned().collect();
    assert!(stayed.len() >= 7 && stayed.len() < before.len(), "{}", stayed.len());
    let missed: Vec<&String> = stayed.difference(&covered).collect();
    assert!(missed.is_empty(), "{missed:?}");
    let counts = recorded(&home).into_iter().map(|record| {
        let covered = record["counts"]["packs_covered"].as_u64().unwrap();
        (covered as usize, record["counts"]["packs"].clone())
    });
    assert_eq!(counts.collect::<Vec<_>>(), told);
}
