//! A machine that has nothing but a place and a key.

use std::fs;

use super::everything::machine;
use super::home::Home;

const CONFIGURATION: &str = ".config/esker/esker.toml";

/// Arguments that name the repository, which no file does any more.
fn lost<'a>(repository: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["-r", repository, "--key-file", "key", "recover"], more].concat()
}

#[test]
fn the_profile_comes_back_and_brings_everything_back() {
    let home = machine();
    let repository = home.repository().display().to_string();
    fs::remove_file(home.path(CONFIGURATION)).unwrap();
    fs::remove_dir_all(home.path("tree")).unwrap();
    let run = home.ok(&lost(&repository, &[]));
    assert!(run.err.contains("not known: ") && run.err.contains("key"), "{}", run.err);
    assert!(run.err.ends_with("  esker restore --profile web latest\n"), "{}", run.err);
    home.ok(&["restore", "--profile", "web", "latest", "--yes"]);
    assert_eq!(fs::read(home.path("tree/a")).unwrap(), b"of the tree");
    // and the next night
    home.ok(&["run", "web"]);
}

/// What is plain configuration comes back, references as they were, and no secret.
#[test]
fn the_environment_of_a_source_comes_back_without_its_secrets() {
    let home = Home::new();
    let base = home.text("");
    let base = base.trim_end_matches('/');
    home.write("token", b"hush\n");
    let text = format!(
        "[repositories.main]\nurl = '{base}/.local/share/esker/repository'\nkey_file = '{base}/key'\n\
         [profiles.web]\nrepositories = ['main']\n[[profiles.web.sources]]\nname = 'dump'\n\
         command = 'echo $GREETING $DUMP_PASSWORD $DUMP_TOKEN'\nrestore = 'cat >{base}/back'\n\
         [profiles.web.sources.environment]\nGREETING = 'good day'\nDUMP_PASSWORD = 'hush'\n\
         DUMP_TOKEN = {{ file = '{base}/token' }}\nPLACE = 'db://me:hush@host/'\n"
    );
    home.write(CONFIGURATION, text.as_bytes());
    home.ok(&["run", "web"]);
    fs::remove_file(home.path(CONFIGURATION)).unwrap();
    let repository = home.repository().display().to_string();
    let run = home.ok(&lost(&repository, &[]));
    let text = fs::read_to_string(home.path(CONFIGURATION)).unwrap();
    let recovered: toml::Value = toml::from_str(&text).unwrap();
    let environment = &recovered["profiles"]["web"]["sources"][0]["environment"];
    assert_eq!(environment["GREETING"].as_str(), Some("good day"));
    assert_eq!(environment["DUMP_TOKEN"]["file"].as_str(), Some(home.text("token").as_str()));
    for name in ["DUMP_PASSWORD", "PLACE"] {
        assert_eq!(environment[name]["environment"].as_str(), Some(name));
        assert!(run.err.contains(&format!("set the variable {name}")), "{}", run.err);
    }
    assert!(!text.contains("hush") && !run.err.contains("GREETING"), "{text}{}", run.err);
    // and the next night, once the secrets are there
    let next = home.command(&["run", "web"]).env("DUMP_PASSWORD", "x").env("PLACE", "y").output();
    assert_eq!(next.unwrap().status.code(), Some(0));
}

#[test]
fn a_file_that_is_there_stays() {
    let home = machine();
    let repository = home.repository().display().to_string();
    let before = fs::read(home.path(CONFIGURATION)).unwrap();
    home.fails(1, &lost(&repository, &[]), "is there already");
    assert_eq!(fs::read(home.path(CONFIGURATION)).unwrap(), before);
    home.write("empty", b"");
    home.fails(1, &lost(&repository, &["--output", "empty"]), "is there already");
    let printed = home.ok(&lost(&repository, &["--output", "-"])).bytes;
    home.ok(&lost(&repository, &["--output", "new/file"]));
    assert_eq!(fs::read(home.path("new/file")).unwrap(), printed);
}

#[test]
fn of_several_one_must_be_named() {
    let home = machine();
    let repository = home.repository().display().to_string();
    home.ok(&["-r", &repository, "--key-file", "key", "backup", "tree"]);
    fs::remove_file(home.path(CONFIGURATION)).unwrap();
    let run = home.run(&[&["--json"], &lost(&repository, &[])[..]].concat());
    assert_eq!(run.code, 2, "{}", run.err);
    let candidates = run.of_type("candidate");
    assert_eq!(candidates.len(), 2);
    assert!(candidates.iter().any(|c| c["profile"] == "web" && c["has_profile"] == true));
    home.fails(1, &lost(&repository, &["--profile", "default"]), "without a profile");
    assert!(!home.has(CONFIGURATION));
    home.ok(&lost(&repository, &["--profile", "web"]));
    assert!(home.has(CONFIGURATION));
}

#[test]
fn an_empty_repository_has_nothing_to_recover() {
    let home = Home::new();
    home.fails(1, &["recover"], "no complete snapshot");
}
