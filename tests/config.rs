//! The configuration as the program takes it: mistakes with their lines, profiles
//! that extend others, secrets, repositories by name, and what a key has no right
//! for. Every test runs the real binary in a home of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;
use support::program::{self, Run};
use tempfile::TempDir;

mod support;

struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Home {
        Home { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that only its owner reads; `HOME` in it is this home.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace("HOME", self.directory.path().to_str().unwrap())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn configure(&self, text: &str) -> PathBuf {
        self.write(".config/esker/esker.toml", text)
    }

    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = program::command(self.directory.path(), arguments);
        Run::of(command.envs(environment.iter().copied()).output().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[])
    }

    fn ok(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}\n{}{}", run.out, run.err);
        run
    }
}

/// `config check` of a text: exit 2, and a mistake in `line` with all of `words`.
#[track_caller]
fn wrong(text: &str, line: usize, words: &[&str]) {
    let home = Home::new();
    let file = home.configure(text);
    let run = home.run(&["config", "check", "--json"]);
    assert_eq!(run.code, 2, "{}{}", run.out, run.err);
    let findings = run.of_type("finding");
    let is_it = |finding: &&Value| {
        finding["line"] == line
            && finding["severity"] == "error"
            && finding["file"] == file.to_str().unwrap()
            && words.iter().all(|word| finding["message"].as_str().unwrap().contains(word))
    };
    assert!(findings.iter().any(|finding| is_it(&finding)), "{words:?} in {line}: {findings:#?}");
    // and any other command says the same in one line, unless it is only told by looking closer
    let run = home.run(&["snapshots"]);
    assert!(run.code != 0 && run.err.lines().count() == 1, "{}", run.err);
}

#[test]
fn a_typo_names_its_line_and_the_nearest_key_wherever_it_is() {
    wrong("repositry = '/x'", 1, &["`repositry`", "did you mean `repository`?"]);
    wrong("[repository.main]\nurl = '/x'", 1, &["`repository` is a table", "text"]);
    wrong("\n[repositories.main]\nulr = '/x'\nurl = '/x'", 3, &["`ulr`", "`url`"]);
    wrong("[profiles.a]\nshedule = ['02:00']", 2, &["`shedule`", "`schedule`"]);
    wrong(
        "[[profiles.a.sources]]\npaths = ['/']\none_filesystem = true",
        3,
        &["`one_file_system`"],
    );
    wrong(
        "[[profiles.a.sources]]\nname = 'db'\npreset = {\n kind = 'mariadb',\n sockte = '/x' }",
        5,
        &["`sockte`", "`socket`"],
    );
    wrong("[profiles.a.hooks]\nbefor = []", 2, &["`befor`", "`before`"]);
    wrong("[profiles.a.retention]\nweekl = 1", 2, &["`weekl`", "`weekly`"]);
    wrong("[notify.webhok]\nurl = 'x'", 1, &["`webhok`", "`webhook`"]);
    wrong("[profiles.a]\nkind = 'maintainance'", 2, &["\"maintenance\"", "template"]);
    wrong("[profiles.a]\ncompression = 23", 2, &["from 0 to 22"]);
    wrong("a = = 1", 1, &[]);
}

#[test]
fn several_mistakes_are_told_at_once_and_warnings_alone_are_none() {
    let home = Home::new();
    home.configure("[profiles.a]\ntag = ['x']\nzone = 'Mars'\n[repositories.r]\n");
    let run = home.run(&["config", "check"]);
    assert_eq!(run.code, 2);
    for line in ["line 2", "line 3", "line 4"] {
        assert!(run.out.contains(line), "{line}: {}", run.out);
    }
    assert!(run.err.contains("3 mistakes"), "{}", run.err);

    home.configure(
        "[profiles.a]\nrepositories = ['/r']\njitter = '5min'\nsources = [{ paths = ['/etc'] }]\n",
    );
    let run = home.ok(&["config", "check", "--offline"]);
    assert!(
        run.out.contains("warning") && run.err.contains("0 mistakes, 1 warning"),
        "{}",
        run.err
    );
}

#[test]
fn a_slip_in_a_notice_and_a_time_that_never_comes_are_told_with_their_lines() {
    wrong(
        "[profiles.a]\nrepositories = ['/r']\nsources = [{ paths = ['/etc'] }]\n\
         schedule = ['02:00',\n'*-02-30']",
        5,
        &["*-02-30", "never comes"],
    );
    let home = Home::new();
    home.configure(
        "[notify.webhook]\nurl = 'https://example.org'\nbody = '{\"a\": {\"b\": \"{hots}\"}}'\n\
         [notify.mail]\nserver = 'smtp://x:25'\nfrom = 'a@x'\nto = ['b@x']\nsubject = '{state} of {profil}'\n\
         [profiles.a]\nrepositories = ['/r']\nschedule = ['2001-01-01']\nsources = [{ paths = ['/etc'] }]\n\
         [profiles.a.notify.mail]\nserver = 'smtp://x:25'\nfrom = 'a@x'\nto = ['b@x']\nbody = '{sentense}'\n",
    );
    let run = home.ok(&["config", "check", "--json"]);
    let findings = run.of_type("finding");
    for (line, words) in [
        (3, ["`notify.webhook.body`", "{hots}"]),
        (8, ["`notify.mail.subject`", "{profil}"]),
        (11, ["2001-01-01", "does not come any more"]),
        (17, ["`notify.mail.body`", "{sentense}"]),
    ] {
        let found = findings.iter().find(|finding| finding["line"] == line);
        let found = found.unwrap_or_else(|| panic!("nothing of line {line}: {findings:#?}"));
        assert_eq!(found["severity"], "warning");
        let message = found["message"].as_str().unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn files_of_the_directory_count_together_and_one_can_be_named() {
    let home = Home::new();
    home.write(".config/esker/b.toml", "[profiles.two]\nextends = ['one']\ntags = ['two']");
    home.write(
        ".config/esker/a.toml",
        "[profiles.one]\nrepositories = ['/r']\ncompression = 9\nsources = [{ paths = ['/etc'] }]",
    );
    let shown = home.ok(&["config", "show", "two"]).out;
    assert!(shown.contains("compression = 9") && shown.contains("\"two\""), "{shown}");
    home.ok(&["config", "check", "--offline"]);

    // the same said twice, in another order and on other lines, is no contradiction
    let same = "\n[profiles.two]\ntags = ['two']\n\nextends = ['one']\n";
    home.write(".config/esker/c.toml", same);
    home.ok(&["config", "check", "--offline"]);
    home.write(
        ".config/esker/c.toml",
        "\n[profiles.two]\ntags = ['two', 'more']\nextends = ['one']",
    );
    let run = home.run(&["config", "check", "--offline"]);
    assert_eq!(run.code, 2);
    assert!(
        run.out.contains("c.toml, line 2") && run.out.contains("b.toml, line 1"),
        "{}",
        run.out
    );

    let other = home.write(
        "other.toml",
        "[profiles.three]\nrepositories = ['/r']\nsources = [{ paths = ['/etc'] }]",
    );
    let other = other.to_str().unwrap();
    home.ok(&["config", "check", "--offline", "--config", other]);
    let run = home.run_with(&["config", "show", "three"], &[("ESKER_CONFIG", other)]);
    assert_eq!(run.code, 0, "{}", run.err);
    let run = home.run(&["config", "check", "--config", "absent.toml"]);
    assert!(run.code == 2 && run.err.contains("no such file"), "{}", run.err);
}

#[test]
fn profiles_extend_each_other_and_never_in_a_circle() {
    wrong("[profiles.a]\nextends = ['b']\n[profiles.b]\nextends = ['a']", 4, &["`a` → `b` → `a`"]);
    wrong("[profiles.base]\n[profiles.a]\nextends = ['bse']", 3, &["did you mean `base`?"]);
    let home = Home::new();
    home.configure(
        "[profiles.base]\nkind = 'template'\nrepositories = ['/r']\nretention = { daily = 7, weekly = 4 }\n\
         [profiles.a]\nextends = ['base']\nretention = { daily = 1 }\nsources = [{ paths = ['/etc'] }]",
    );
    let run = home.ok(&["config", "show", "a", "--json"]);
    let profile = &run.of_type("profile")[0]["configuration"]["profiles"]["a"];
    assert_eq!(profile["retention"], serde_json::json!({ "daily": 1, "weekly": 4 }));
    assert_eq!(profile["repositories"], serde_json::json!(["/r"]));
    assert!(profile.get("kind").is_none() && profile.get("extends").is_none(), "{profile}");
    let run = home.run(&["config", "show", "base"]);
    assert!(run.code == 2 && run.err.contains("template"), "{}", run.err);
    let run = home.run(&["config", "check", "aa"]);
    assert!(run.code == 2 && run.err.contains("did you mean a?"), "{}", run.err);
    assert_eq!(home.ok(&["config", "show"]).out.lines().count(), 2);
}

#[test]
fn what_the_machine_lacks_is_named_before_anything_runs() {
    let beginning = "[profiles.a]\nrepositories = ['/r']\n[[profiles.a.sources]]\nname = 'x'\n";
    let with = |more: &str, line, words: &[&str]| wrong(&format!("{beginning}{more}"), line, words);
    with("command = 'no-such-dump --all | cat'", 5, &["no program no-such-dump in PATH"]);
    with("tar = ['/nowhere/tar', 'c']", 5, &["/nowhere/tar"]);
    with("preset = { kind = 'postgresql', through = ['no-kubectl', 'exec'] }", 5, &["no-kubectl"]);
    with("command = 'cat'\nhooks = { before = [{ run = 'no-such-hook' }] }", 6, &["no-such-hook"]);
    let text = "[repositories.r]\nurl = '/r'\npassword = { file = '/nowhere/pw' }";
    wrong(text, 3, &["`repositories.r.password`", "/nowhere/pw"]);

    // a preset's programs, where there are none at all
    let home = Home::new();
    home.configure(&format!("{beginning}preset = {{ kind = 'postgresql' }}"));
    let run = home.run_with(&["config", "check", "--json"], &[("PATH", "/nowhere")]);
    let missing: Vec<String> =
        run.of_type("finding").iter().map(|f| f["message"].to_string()).collect();
    assert_eq!(run.code, 2);
    for program in ["psql", "pg_dump ", "pg_dumpall"] {
        assert!(missing.iter().any(|message| message.contains(program)), "{program}: {missing:?}");
    }
}

#[test]
fn secrets_that_others_read_are_warned_of_and_never_shown() {
    let home = Home::new();
    home.ok(&["-r", "repository", "init", "--key-file", "key"]);
    home.write("ping", "https://example.org/hush-file\n");
    let file = home.configure(
        "notify = { ping = { file = 'HOME/ping' }, webhook = { url = 'https://hush-text' } }\n\
         [repositories.r]\nurl = 'HOME/repository'\nkey_file = 'HOME/key'\n\
         [profiles.a]\nrepositories = ['r']\nsources = [{ paths = ['/etc'] }]\n",
    );
    let run = home.ok(&["config", "check"]);
    assert!(run.err.contains("0 warnings"), "{}{}", run.out, run.err);

    let readable = |path: &PathBuf| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        home.ok(&["config", "check"]).out
    };
    let told = readable(&file);
    assert!(told.contains("webhook.url") && told.contains("chmod 600"), "{told}");
    let told = readable(&home.path("ping"));
    assert!(
        told.contains("notify.ping")
            && told.contains(&format!("chmod 600 {}", home.path("ping").display())),
        "{told}"
    );

    for arguments in [
        &["config", "show", "a"][..],
        &["config", "show", "a", "--json"],
        &["config", "check", "--json"],
    ] {
        let run = home.ok(arguments);
        assert!(!run.out.contains("hush") && !run.err.contains("hush"), "{}", run.out);
    }
    let shown = home.ok(&["config", "show", "a"]).out;
    assert!(shown.contains("# not known: `notify.webhook.url`"), "{shown}");
    assert!(
        shown.contains("[repositories.r]")
            && shown.contains(
                "HOME/ping".replace("HOME", home.directory.path().to_str().unwrap()).as_str()
            )
    );
    let again = home.write("again.toml", &shown);
    home.ok(&["config", "check", "--offline", "--config", again.to_str().unwrap()]);
}

#[test]
fn repositories_are_opened_by_name_with_their_own_keys() {
    let home = Home::new();
    home.write("password", "correct horse\nsecond line\n");
    home.configure(
        "repository = 'first'\n\
         [repositories.first]\nurl = 'HOME/one'\nkey_file = 'HOME/key'\n\
         [repositories.second]\nurl = 'HOME/two'\npassword = { file = 'HOME/password' }\n\
         [repositories.third]\nurl = 'HOME/two'\npassword = { environment = 'THIRD' }\n",
    );
    // `init` makes what the configuration names, with what it says opens it
    home.ok(&["-r", "first", "init"]);
    home.ok(&["-r", "second", "init"]);
    assert!(home.path("one/config").is_file() && home.path("two/config").is_file());
    home.write("data/file", "text");
    home.ok(&["-r", "first", "backup", "data"]);
    // named, meant by `repository`, and as a place with a key
    let count =
        |arguments: &[&str]| home.ok(&[arguments, &["snapshots", "--json"]].concat()).json().len();
    assert_eq!([count(&["-r", "first"]), count(&[]), count(&["-r", "second"])], [1, 1, 0]);
    let run = home.run_with(&["-r", "third", "snapshots"], &[("THIRD", "correct horse")]);
    assert_eq!(run.code, 0, "{}", run.err);
    let run = home.run(&["-r", "third", "snapshots"]);
    assert!(
        run.code == 12
            && run.err.contains("`repositories.third.password`")
            && run.err.contains("THIRD"),
        "{}",
        run.err
    );
    // what was typed counts first
    let run = home.run(&["-r", "second", "snapshots", "--key-file", "key"]);
    assert_eq!(run.code, 12, "{}", run.err);
    // and the other repository of a command has a name as well
    home.ok(&["-r", "first", "copy", "--to", "second"]);
    assert_eq!(count(&["-r", "second"]), 1);
}

#[test]
fn a_step_that_the_key_has_no_right_for_is_named_with_who_must_do_it() {
    let home = Home::new();
    home.ok(&["-r", "repository", "init", "--key-file", "full"]);
    home.ok(&[
        "-r",
        "repository",
        "--key-file",
        "full",
        "key",
        "add",
        "--label",
        "w",
        "--role",
        "write",
        "--new-key-file",
        "write",
    ]);
    let profile = |key: &str, more: &str| {
        home.configure(&format!(
            "[repositories.r]\nurl = 'HOME/repository'\nkey_file = 'HOME/{key}'\n\
             [profiles.a]\nrepositories = ['r']\nsources = [{{ paths = ['/etc'] }}]\n{more}"
        ));
        home.run(&["config", "check", "--json"])
    };
    let states = |run: &Run| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        run.of_type("step").iter().map(|step| (text(&step["step"]), text(&step["state"]))).collect()
    };
    let of = |step: &str, state: &str| (step.to_owned(), state.to_owned());
    let all = "retention = { daily = 7 }\nprune = {}\ndrill = {}\n";

    let run = profile("full", all);
    assert_eq!(run.code, 0, "{}", run.out);
    assert!(states(&run).iter().all(|(_, state)| state == "ok"));
    let run = profile("write", "");
    assert_eq!((run.code, states(&run)), (0, vec![of("backup", "ok")]));
    let run = profile("write", all);
    assert_eq!(run.code, 2);
    assert_eq!(
        states(&run),
        [of("backup", "ok"), of("retention", "error"), of("prune", "error"), of("drill", "error")]
    );
    assert!(run.out.contains("write key") && run.out.contains("full or maintain"), "{}", run.out);
}

#[test]
fn a_repository_that_is_away_is_a_row() {
    let home = Home::new();
    home.ok(&["-r", "repository", "init", "--key-file", "key"]);
    let configure = |other: &str| {
        home.configure(&format!(
            "[repositories.here]\nurl = 'HOME/repository'\nkey_file = 'HOME/key'\n\
             [repositories.there]\nkey_file = 'HOME/key'\n{other}\n\
             [profiles.a]\nrepositories = ['here', 'there']\nsources = [{{ paths = ['/etc'] }}]\n"
        ));
        home.run(&["config", "check", "--json"])
    };
    let states = |run: &Run| -> Vec<String> {
        run.of_type("step").iter().map(|step| step["state"].as_str().unwrap().to_owned()).collect()
    };
    // nobody listens on a port that was just given back
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = configure(&format!("url = 'sftp://user@127.0.0.1:{port}/x?patience=0'"));
    assert_eq!((run.code, states(&run)), (75, vec!["ok".into(), "away".into()]), "{}", run.out);
    let run = configure("url = 'HOME/nowhere'\nremovable = true");
    assert_eq!((run.code, states(&run)), (0, vec!["ok".into(), "removed".into()]), "{}", run.out);
    let run = configure("url = 'HOME/nowhere'");
    assert_eq!((run.code, states(&run)), (2, vec!["ok".into(), "error".into()]), "{}", run.out);
}

#[test]
fn the_schema_that_ships_is_the_one_that_is_printed() {
    let printed = Home::new().ok(&["config", "schema"]).out;
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/esker.schema.json");
    let text = fs::read_to_string(shipped).unwrap();
    assert_eq!(printed, text, "write it anew: esker config schema > docs/esker.schema.json");
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn the_example_is_accepted_and_the_page_has_every_key() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let example = format!("{docs}/esker.toml");
    let home = Home::new();
    let run = home.ok(&["config", "check", "--offline", "--config", &example]);
    assert!(run.err.contains("0 mistakes, 0 warnings"), "{}{}", run.out, run.err);
    let page = fs::read_to_string(format!("{docs}/profiles.md")).unwrap();
    let schema: Value = serde_json::from_str(&home.ok(&["config", "schema"]).out).unwrap();
    let mut missing = Vec::new();
    keys_of(&schema, &mut |key| {
        if !page.contains(&format!("`{key}`")) {
            missing.push(key.to_owned());
        }
    });
    assert!(missing.is_empty(), "docs/profiles.md says nothing of {missing:?}");
}

/// Every key of a table anywhere in a schema.
fn keys_of(schema: &Value, found: &mut dyn FnMut(&str)) {
    match schema {
        Value::Object(object) => {
            for (name, value) in object {
                match (name.as_str(), value) {
                    ("properties", Value::Object(properties)) => {
                        properties.iter().for_each(|(key, schema)| {
                            found(key);
                            keys_of(schema, found);
                        });
                    }
                    _ => keys_of(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys_of(item, found)),
        _ => {}
    }
}
