//! One flipped bit, streams that nobody reads, and what records say of it.

use std::fs;
use std::path::Path;

use super::home::Home;
use super::{drill, last_log, noise, one, recorded, texts};

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 4;
    fs::write(file, bytes).unwrap();
}

/// In blocks of files, of names and of reference sets, and beside them.
#[test]
fn one_flipped_bit_fails_the_drill_and_names_the_file() {
    let home = Home::new();
    home.write("tree/file", &noise(1, 3 << 20));
    home.ok(&["backup", "tree"]);
    let file = home.text("tree/file");
    for kind in [1, 2, 3] {
        let pack = home.packs(kind).remove(0);
        let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
        let length = fs::metadata(&pack).unwrap().len() as usize;
        for at in [0, length / 3, length - 1] {
            flip(&pack, at);
            let run = drill(&home, &[]);
            assert_eq!(run.code, 22, "kind {kind}, byte {at}: {}", run.err);
            let summary = one(&run, "summary");
            assert_eq!((&summary["ok"], &summary["exit_code"]), (&false.into(), &22.into()));
            let wrong = run.of_type("wrong");
            let told = format!("{wrong:?}");
            // names that are damaged cannot be told
            assert!(told.contains(if kind == 1 { &file } else { &name }), "{kind}, {at}: {told}");
            let record = recorded(&home).pop().unwrap();
            assert_eq!(record["exit_code"], 22);
            assert_eq!(record["counts"]["findings"], wrong.len());
            let log = last_log(&home);
            let line = log.lines().find(|line| line.starts_with("wrong: ")).expect(&log);
            assert!(line.contains(if kind == 1 { &file } else { &name }), "{log}");
            flip(&pack, at);
        }
    }
    let run = drill(&home, &[]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(recorded(&home).pop().unwrap()["exit_code"], 0);
}

/// People see the file in a line of its own, and the verdict at the end.
#[test]
fn what_is_wrong_is_told_in_words() {
    let home = Home::new();
    home.write("tree/file", &noise(1, 1 << 20));
    home.ok(&["backup", "tree"]);
    flip(&home.packs(1).remove(0), 100_000);
    let run = home.run(&["drill"]);
    let out = run.out;
    assert_eq!(run.code, 22, "{}", run.err);
    assert!(out.contains(&format!("{}: ", home.text("tree/file"))), "{out}");
    assert!(run.err.contains("DRILL FAILED: 1 finding"), "{}", run.err);
    assert!(
        run.err.contains("not covered: nothing was compared with the live source"),
        "{}",
        run.err
    );
}

#[test]
fn a_stream_that_nothing_read_is_not_covered_and_a_command_decides() {
    let home = Home::new();
    home.save_stream("db", &noise(1, 1 << 20), &[]);
    let not_covered = |more: &[&str]| {
        let run = drill(&home, more);
        let summary = one(&run, "summary");
        let said = texts(&summary["not_covered"]).join("\n");
        let log = last_log(&home);
        for text in said.lines() {
            assert!(log.contains(&format!("not covered: {text}")), "{log}");
        }
        let count = recorded(&home).pop().unwrap()["counts"]["not_covered"].clone();
        assert_eq!(count, said.lines().count());
        (run.code, said, summary["loaded"].clone())
    };
    let (code, said, _) = not_covered(&[]);
    assert!(code == 0 && said.contains("--command db=COMMAND"), "{said}");
    assert!(said.contains("nothing was compared with the live source"), "{said}");

    let (code, said, loaded) = not_covered(&["--command", "db=cat >got"]);
    assert!(code == 0 && !said.contains("db"), "{said}");
    assert_eq!(texts(&loaded), ["db"]);
    assert_eq!(fs::read(home.path("got")).unwrap(), noise(1, 1 << 20));

    let (code, _, loaded) = not_covered(&["--command", "db=cat >got; exit 9"]);
    assert_eq!((code, texts(&loaded)), (22, vec![]));
    assert!(last_log(&home).contains("wrong: db: "), "{}", last_log(&home));
}
