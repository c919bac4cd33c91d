//! Sources that are paths, from the lines of a profile to what a snapshot has of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use esker::backup::{BackupOptions, backup};
use esker::config::profile::ProfileSettings;
use esker::format::manifest::Outcome;
use esker::progress::Silent;
use esker::run::hooks::Facts;
use esker::run::sources::prepare;
use esker::source::Surroundings;
use esker::store::{OpendalStore, Store};

use crate::support;

/// What the backup of a profile is told.
fn prepared(lines: &str) -> BackupOptions {
    let settings: ProfileSettings =
        toml::from_str(lines).unwrap_or_else(|error| panic!("{lines}\n{error}"));
    let surroundings = Surroundings {
        path: OsString::new(),
        temporary: std::env::temp_dir(),
        reveal: &|_| panic!("there is no secret"),
        id: None,
    };
    let warn: Arc<dyn Fn(String) + Send + Sync> = Arc::new(|text| panic!("{text}"));
    prepare(&settings, &Facts::default(), &surroundings, &warn).unwrap().options
}

#[test]
fn one_file_system_counts_for_its_own_source_only() {
    let options = prepared(
        "sources = [{ paths = ['/'], one_file_system = true }, { paths = ['/srv', '/home'] }]",
    );
    let stays = options.of_roots.iter().map(|(path, own)| (path.as_path(), own.one_file_system));
    let expected = [("/", true), ("/srv", false), ("/home", false)];
    assert!(stays.eq(expected.map(|(path, stays)| (Path::new(path), stays))));
    assert!(!options.one_file_system);
}

/// An exclude of one source, of the profile or of an outer path never takes a path that was named, or what is beneath it.
#[test]
fn what_a_source_names_is_saved_whatever_others_leave_out() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let all = [
        "home/anna/Downloads/film",
        "home/anna/work",
        "home/shared/Downloads/Downloads/deep",
        "home/shared/Downloads/build.o",
        "home/shared/Downloads/form",
        "home/shared/form.o",
        "logs/today",
        "logs/today.o",
    ];
    for name in all {
        fs::create_dir_all(base.join(name).parent().unwrap()).unwrap();
        fs::write(base.join(name), name).unwrap();
    }
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    support::init(&store);
    let check = |first: &str, second: &str, left_out: &[&str]| {
        let lines = format!("exclude = ['logs', '*.o']\nsources = [{first}, {second}]");
        let options = BackupOptions {
            host: "host".to_owned(),
            profile: "profile".to_owned(),
            ..prepared(&lines.replace("BASE", &base.display().to_string()))
        };
        let report = backup(&support::open(&store), &options, Vec::new(), &Silent).unwrap();
        assert_eq!(report.outcome, Outcome::Complete);
        let saved = support::contents(&support::open(&store), report.snapshot.unwrap());
        let path = |name: &&str| base.join(name).as_os_str().as_bytes().to_vec();
        let expected = all.iter().filter(|name| !left_out.contains(name));
        let expected: BTreeMap<_, _> =
            expected.map(|name| (path(name), name.as_bytes().to_vec())).collect();
        assert_eq!(saved, expected, "{lines}");
    };
    // the paths of the second are named as the rules of the first, or of the profile, leave them out
    check(
        "{ paths = ['BASE/home'], exclude = ['Downloads'] }",
        "{ paths = ['BASE/home/shared/Downloads', 'BASE/logs'] }",
        &[all[0], all[3], all[5], all[7]],
    );
    // what the second says counts beneath its paths only, and may take back what the profile says
    check(
        "{ paths = ['BASE/home'] }",
        "{ paths = ['BASE/home/shared/Downloads', 'BASE/logs'], exclude = ['!*.o', 'form*', 'today'] }",
        &[all[4], all[5], all[6]],
    );
    // a path of one source may lie within another of it
    check(
        "{ paths = ['BASE/home', 'BASE/home/shared/Downloads'], exclude = ['Downloads', 'f*'] }",
        "{ paths = ['BASE/logs/today.o'] }",
        &[all[0], all[2], all[3], all[4], all[5], all[6]],
    );
}
