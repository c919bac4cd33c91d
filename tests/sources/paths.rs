//! Sources that are paths, from the lines of a profile to what a snapshot has of them.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use esker::backup::BackupOptions;
use esker::config::profile::ProfileSettings;
use esker::run::hooks::Facts;
use esker::run::sources::prepare;
use esker::source::Surroundings;

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
