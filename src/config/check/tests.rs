//! One beginning that is good, and what makes it wrong.

use std::path::Path;

use super::super::load::parse;
use super::*;

fn findings(text: &str) -> Vec<Finding> {
    let loaded = parse(Path::new("esker.toml"), text.to_owned());
    assert_eq!(loaded.findings, [], "{text}");
    let profiles: Vec<&Profile> = loaded.configuration.profiles().iter().collect();
    let place = |name: &str| name.starts_with("gopher:").then(|| "no such store".to_owned());
    check(&loaded.configuration, &profiles, &place)
}

const GOOD: &str = "\
[repositories.main]
url = '/repository'
[profiles.a]
repositories = ['main']
";

/// What is added to a good beginning of four lines is wrong in one way only.
#[track_caller]
fn wrong(more: &str, line: usize, words: &[&str]) {
    let found = findings(&format!("{GOOD}{more}"));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].at.line, line, "{found:#?}");
    assert!(words.iter().all(|word| found[0].sentence.contains(word)), "{found:#?}");
}

const PATHS: &str = "sources = [{ paths = ['/srv'] }]\n";

fn with_paths(more: &str, line: usize, words: &[&str]) {
    wrong(&format!("{PATHS}{more}"), line, words);
}

#[test]
fn a_good_one_is_good() {
    assert_eq!(findings(&format!("{GOOD}{PATHS}")), []);
}

#[test]
fn sources_are_one_of_four_and_have_names() {
    wrong("", 3, &["backs up nothing"]);
    let source = |more: &str, line, words: &[&str]| {
        wrong(&format!("[[profiles.a.sources]]\n{more}"), line, words);
    };
    source("name = 'x'", 5, &["one of paths, command, tar and preset"]);
    source("name = 'x'\npaths = ['/a']\ncommand = 'b'", 8, &["paths and command"]);
    source("command = 'b'", 5, &["command", "`name`"]);
    source("preset = { kind = 'redis' }", 5, &["preset", "`name`"]);
    for name in ["files", ".", "..", "a/b", "", "a\\u0000b"] {
        source(&format!("name = \"{name}\"\ntar = 'b'"), 6, &["cannot be called"]);
    }
    source("name = 'x'\ncommand = ' '", 7, &["`command` is empty"]);
    source("paths = []", 6, &["`paths` is empty"]);
    source("paths = ['srv']", 6, &["whole path"]);
    source("paths = ['/a']\nends_with = 'x'", 7, &["`ends_with`", "paths"]);
    source("name = 'x'\ncommand = 'a'\nmay_fail = ['/a']", 8, &["`may_fail`", "command"]);
    source("name = 'x'\npreset = { kind = 'sqlite', files = [] }", 7, &["`files` is empty"]);
    source("name = 'x'\ncommand = 'a'\ntimeout = '0s'", 8, &["`timeout`", "leaves no time"]);
    source("name = 'x'\ncommand = 'a'\nidle_timeout = '0s'", 8, &["`idle_timeout`", "no time"]);
    source("paths = ['/a']\nidle_timeout = '1h'", 7, &["`idle_timeout`", "paths"]);
    let twice = "[[profiles.a.sources]]\nname = 'x'\ncommand = 'a'\n";
    wrong(&format!("{twice}{twice}"), 9, &["two sources", "\"x\""]);
}

#[test]
fn repositories_are_known_or_places() {
    let check = |text: &str, line, words: &[&str]| {
        let found = findings(&format!("{text}\n{PATHS}"));
        assert_eq!((found.len(), found[0].at.line), (1, line), "{found:#?}");
        assert!(words.iter().all(|word| found[0].sentence.contains(word)), "{found:#?}");
    };
    check(
        "[repositories.main]\nurl = '/r'\n[profiles.a]\nrepositories = ['mian']",
        4,
        &["\"main\""],
    );
    check("[profiles.a]\nrepositories = ['gopher://x']", 2, &["no such store"]);
    check("[profiles.a]\nrepositories = ['elsewhere']", 2, &["neither"]);
    check("[profiles.a]\nrepositories = ['/x', '/x']", 2, &["twice"]);
    check("[profiles.a]", 1, &["no repository"]);
    check("[profiles.a]\nrepositories = ['/x']\ncopy = [{ to = '/x' }]", 3, &["`copy`", "anyway"]);
    let repository = |more: &str| {
        format!("[repositories.r]\nurl = '/r'\n{more}\n[profiles.a]\nrepositories = ['r']")
    };
    check(&repository("key_file = '/k'\npassword = 'x'"), 4, &["key_file and password"]);
    check(&repository("environment = { AWS_SECRET_KEY = 'x' }"), 3, &["AWS_SECRET_ACCESS_KEY"]);
    check(
        &repository("environment = { AWS_ACCESS_KEY_ID = 'x' }"),
        3,
        &["no AWS_SECRET_ACCESS_KEY"],
    );
}

/// Tonight's part of one host and last month's of a dead one are no whole.
#[test]
fn sets_are_told_apart() {
    let set = |name: &str| format!("set = {{ name = '{name}', part = 'a', parts = ['a', 'b'] }}");
    for name in ["nightly", "{host}-{profile}"] {
        with_paths(&set(name), 6, &["{id}", "{time:%Y-%m-%d}", name]);
    }
    for name in ["n-{id}", "{time:%Y-%m-%d}"] {
        assert_eq!(findings(&format!("{GOOD}{PATHS}{}", set(name))), []);
    }
    with_paths(&set("n-{id}-{x}"), 6, &["{x}"]);
}

#[test]
fn names_differ_from_one_run_to_the_next() {
    let text = |name: &str, schedule: &str| format!("schedule = [{schedule}]\nname = '{name}'");
    for (name, schedule) in [
        ("web", "'daily'"),
        ("{time:%Y-%m-%d}", "'02:00', '14:00'"),
        ("{time:%Y-%m}", "'weekly'"),
        ("{time:%Y-%m-%d %H}", "'*:0/30'"),
    ] {
        with_paths(&text(name, schedule), 7, &["two runs in a row", name]);
    }
    for (name, schedule) in [
        ("{time:%Y-%m-%d}", "'02:00'"),
        ("{time:%Y-%m-%d %H}", "'02:00', '14:00'"),
        ("{time:%Y-%m}", "'monthly'"),
        ("{id}", "'hourly'"),
        ("by hand", ""),
    ] {
        assert_eq!(findings(&format!("{GOOD}{PATHS}{}", text(name, schedule))), [], "{name}");
    }
    with_paths(&text("{x}", "'daily'"), 7, &["{x}"]);
}

#[test]
fn the_rest_makes_sense_too() {
    with_paths("retention = { every = '1d' }", 6, &["keeps nothing"]);
    with_paths("retention = { last = 0 }", 6, &["keeps nothing"]);
    with_paths("retention = { last = 1, group_by = ['source'] }", 6, &["\"sources\""]);
    with_paths("schedule = ['02:00', '25:00']", 6, &["25:00", "no calendar expression"]);
    with_paths("schedule = ['02:00 Europe/Berlinn']", 6, &["Europe/Berlinn"]);
    for never in ["*-02-30", "0 0 31 2 *", "Mon *-02-30 12:00"] {
        with_paths(&format!("schedule = ['02:00',\n'{never}']"), 7, &[never, "never comes"]);
    }
    with_paths("notify = { webhook = { url = 'https://x',\n body = '{hots}' } }", 7, &["{hots}"]);
    with_paths("schedule = ['']", 6, &["no calendar expression"]);
    with_paths("jitter = '5min'", 6, &["`jitter`", "`schedule`"]);
    with_paths(
        "set = { name = '{id}', part = 'db', parts = ['bd', 'web'] }",
        6,
        &["`part`", "\"bd\""],
    );
    with_paths("set = { name = '{id}', part = 'a', parts = ['a', 'a'] }", 6, &["twice"]);
    with_paths("hooks = { before = [{ run = [] }] }", 6, &["`run` is empty"]);
    with_paths("prune = { every = '0s' }", 6, &["longer than nothing"]);
    with_paths("drill = { commands = { db = 'true' } }", 6, &["no source is called that"]);
    with_paths("kind = 'maintenance'\nprune = {}", 5, &["takes no snapshots"]);
    wrong("kind = 'maintenance'", 5, &["does nothing"]);
    wrong("kind = 'standby'", 5, &["standby"]);
    wrong("kind = 'standby'\nstandby = { host = '', profile = 'p' }", 6, &["host"]);
    with_paths("standby = { host = 'h', profile = 'p' }", 6, &["no standby"]);
}
