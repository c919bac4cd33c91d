//! `esker schedule` as people meet it: every test runs the real binary.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const CONFIGURATION: &str = r#"
[repositories.store]
url = "s3://bucket"
password = { credential = "store" }

[repositories.archive]
url = "s3://archive"
password = { credential = "archive" }

[profiles.base]
kind = "template"
schedule = ["daily"]

[profiles.web]
repositories = ["store"]
copy = [{ to = "archive" }]
schedule = ["02:30", "Sun 12:00"]
zone = "Europe/Berlin"

[profiles."data base"]
schedule = ["*-*~1 4:00"]

[profiles.by-hand]
"#;

struct Home {
    directory: TempDir,
}

impl Home {
    fn new(configuration: &str) -> Home {
        let home = Home { directory: tempfile::tempdir().unwrap() };
        fs::write(home.path("esker.toml"), configuration).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_esker"));
        let home = self.directory.path();
        command.args(["schedule"]).args(arguments).current_dir(home).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", home).env("TZ", "UTC");
        command.env("ESKER_CONFIG", "esker.toml").env("ESKER_CACHE_DIR", home.join("cache"));
        command.stdin(Stdio::null());
        command
    }

    /// Standard output and error of what must end with this code.
    fn ends(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.command(arguments).output().unwrap();
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
        (out, err)
    }

    fn files(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn units_are_installed_listed_and_removed() {
    let home = Home::new(CONFIGURATION);
    let (_, said) = home.ends(0, &["install", "--directory", "units"]);
    let names = [
        "esker-data\\x20base.service",
        "esker-data\\x20base.timer",
        "esker-web.service",
        "esker-web.timer",
    ];
    assert_eq!(home.files("units"), names);
    assert!(said.contains("  systemctl daemon-reload\n  systemctl enable --now esker-"), "{said}");
    let service = fs::read_to_string(home.path("units/esker-web.service")).unwrap();
    let configuration = fs::canonicalize(home.path("esker.toml")).unwrap();
    let start = format!(" run web --scheduled --config {}\n", configuration.display());
    assert!(service.contains(&start), "{service}");
    // also of what it only copies to
    assert!(service.contains("LoadCredential=archive\nLoadCredential=store\n"), "{service}");
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").args(names.map(|name| home.path("units").join(name)));
    let verified = verify.output().expect("systemd-analyze runs (package systemd)");
    let said = [verified.stdout, verified.stderr].concat();
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));

    let (listed, _) = home.ends(0, &["list", "--directory", "units"]);
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(listed.contains("data base  /"), "{listed}");
    home.ends(2, &["remove", "by-hand", "--directory", "units"]);
    home.ends(0, &["remove", "data base", "--directory", "units"]);
    assert_eq!(home.files("units"), names[2..]);
    home.ends(0, &["remove", "--directory", "units"]);
    assert_eq!(home.files("units"), [""; 0]);
}

#[test]
fn what_esker_did_not_write_is_left_alone() {
    let home = Home::new(CONFIGURATION);
    fs::create_dir(home.path("units")).unwrap();
    fs::write(home.path("units/esker-web.timer"), "[Timer]\n").unwrap();
    let (_, said) = home.ends(1, &["install", "--directory", "units"]);
    assert!(said.contains("esker-web.timer: it was not written by esker"), "{said}");
    home.ends(0, &["remove", "--directory", "units"]);
    assert_eq!(home.files("units"), ["esker-web.timer"]);
}

#[test]
fn cron_and_kubernetes_say_what_they_can() {
    let home = Home::new(&CONFIGURATION.replace("zone = \"Europe/Berlin\"", ""));
    home.ends(0, &["install", "web", "--cron", "--directory", "cron.d"]);
    let text = fs::read_to_string(home.path("cron.d/esker-web")).unwrap();
    assert!(text.contains("\n30 2 * * * root /") && text.contains("\n0 12 * * 0 root /"), "{text}");
    let (lines, _) = home.ends(0, &["install", "web", "--cron", "--user"]);
    assert!(lines.starts_with("30 2 * * * /") && lines.lines().count() == 2, "{lines}");
    let kubernetes = ["install", "web", "--kubernetes", "registry/esker:1"];
    let (yaml, said) = home.ends(0, &kubernetes);
    assert_eq!(yaml.matches("kind: CronJob").count(), 2, "{yaml}");
    assert_eq!(said, "");
    let (yaml, said) = Home::new(CONFIGURATION).ends(0, &kubernetes);
    assert_eq!(yaml.matches("hostname: esker-web\n").count(), 2, "{yaml}");
    assert_eq!(
        said.matches("warning: profile web: schedule \"02:30\": Kubernetes").count(),
        1,
        "{said}"
    );
    // one that cannot be said leaves all unwritten
    let (_, said) = home.ends(2, &["install", "--cron", "--directory", "other"]);
    assert!(said.contains("days from the end") && !home.path("other").exists(), "{said}");
}

#[test]
fn the_next_runs_are_shown_in_the_profile_s_zone() {
    let home = Home::new(CONFIGURATION);
    let (shown, _) = home.ends(0, &["show", "web", "--runs", "3"]);
    let times: Vec<&str> = shown.lines().skip(1).take(3).collect();
    let local = |time: &&str| time.ends_with(" CET") || time.ends_with(" CEST");
    assert!(times.iter().all(local), "{shown}");
    assert!(shown.contains("esker-web.timer:\n") && shown.contains("OnCalendar="), "{shown}");
    let (json, _) = home.ends(0, &["show", "--json"]);
    let types = json.lines().map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["type"].as_str().unwrap().to_owned()
    });
    let expected = ["schedule", "schedule", "unit", "unit", "unit", "unit"];
    assert_eq!(types.collect::<Vec<_>>(), expected);
}

#[test]
fn bad_input_is_one_sentence() {
    let check = |configuration: &str, arguments: &[&str], word: &str| {
        let (_, said) = Home::new(configuration).ends(2, arguments);
        assert!(said.lines().count() == 1 && said.contains(word), "{said}");
    };
    check(CONFIGURATION, &["show", "wbe"], "no profile wbe: did you mean web?");
    check(CONFIGURATION, &["show", "by-hand"], "it has no schedule");
    check("", &["show"], "no profile of the configuration has a schedule");
    check("[profiles.a]\nschedul = []\n", &["show"], "did you mean `schedule`");
    check("[profiles.a]\nschedule = ['25:00']\n", &["show"], "hour \"25\" is not between 0 and 23");
    check("[profiles.a]\nzone = 'Berlin'\n", &["run"], "\"Berlin\" is no time zone");
}

/// Ends the process if a test stops before its end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_scheduler_is_alone_and_stops_when_told() {
    let home = Home::new(CONFIGURATION);
    let child = home.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut scheduler = Running(child);
    let mut said = BufReader::new(scheduler.0.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("is scheduled"), "{line}");
    let (_, second) = home.ends(75, &["run"]);
    let by = format!("runs already by process {} since 2", scheduler.0.id());
    assert!(second.contains(&by), "{second}");
    let pid = scheduler.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(scheduler.0.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("warning"), "{rest}");
}
