//! Commands whose output is a file.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use esker::repository::ErrorKind;

use crate::memory::{Memory, capture, fails, source};
use crate::support::program::{self, Run};

fn lines(command: &str) -> String {
    format!("name = 'dump'\ncommand = {}\n", toml::Value::from(command))
}

#[test]
fn what_a_command_prints_is_a_file_and_what_it_says_is_kept() {
    let program = "name = 'dump'\ncommand = ['printf', 'a b\\n']\n";
    let (memory, outcome, told) = capture(program);
    assert_eq!((outcome, memory.bytes("")), (Ok(()), &b"a b\n"[..]));
    assert!(told.log.bytes().is_empty());

    let long = "seq 1 300000; seq 1 100000 >&2; printf end >&2";
    let (memory, outcome, told) = capture(&lines(long));
    assert_eq!(outcome, Ok(()));
    assert!(memory.bytes("").ends_with(b"\n300000\n") && memory.bytes("").len() == 1_988_895);
    assert_eq!(told.log.bytes().len(), 64 << 10);
    assert!(told.log.bytes().ends_with(b"\n100000\nend"));

    let variable = format!("{}environment = {{ GREETING = 'hello' }}\n", lines("echo $GREETING"));
    assert_eq!(capture(&variable).0.bytes(""), b"hello\n");
    assert_eq!(capture(&lines("cat; echo over")).0.bytes(""), b"over\n");
}

#[test]
fn a_failing_command_fails_the_source_with_the_last_it_said() {
    fails(&lines("echo half; exit 3"), &["exit status 3"]);
    fails(
        &lines("echo half; seq 1 9 >&2; echo no such table >&2; exit 1"),
        &["exit status 1: 8; 9; no such table"],
    );
    fails(&lines("echo half; kill -9 $$"), &["signal 9"]);
    fails(&lines("printf '\\033[2J\\377bad' >&2; exit 1"), &["\\u{1b}[2J", "bad"]);
    fails(&lines("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1"), &["xxx"]);
    fails(&lines(":"), &["gave nothing"]);
    fails(&lines("echo quiet >&2"), &["gave nothing: quiet"]);
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_all_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let command = format!("echo half; sleep 600 & echo $! >{}; wait", pid.display());
    let began = Instant::now();
    fails(&format!("{}timeout = '500ms'\n", lines(&command)), &["0.5 s", "was ended"]);
    // one that closes its output and goes on, and one that turns a deaf ear
    fails(&format!("{}timeout = '500ms'\n", lines("echo all; exec >&- ; sleep 600")), &["0.5 s"]);
    fails(
        &format!("{}timeout = '500ms'\n", lines("trap '' TERM; echo half; sleep 600; sleep 600")),
        &["0.5 s"],
    );
    assert!(began.elapsed() < Duration::from_secs(60));
    let pid = std::fs::read_to_string(&pid).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "it runs on: {state}");
}

/// Before its first byte, after it, and when it has closed its output; not one that goes on talking, wherever to.
#[test]
fn a_command_that_gives_no_sign_of_life_is_ended() {
    let idle = |limit: &str, command: &str| format!("{}idle_timeout = '{limit}'\n", lines(command));
    let began = Instant::now();
    for command in ["sleep 600", "echo half; sleep 600", "echo all; exec >&-; sleep 600"] {
        fails(&idle("500ms", command), &["no sign of life for 0.5 s", "was ended", "idle_timeout"]);
    }
    let tar = lines("sleep 600").replace("command", "tar");
    fails(&format!("{tar}idle_timeout = '500ms'\n"), &["no sign of life"]);
    assert!(began.elapsed() < Duration::from_secs(60));
    let talks = "for n in 1 2 3 4 5 6 7 8 9; do echo $n >&TO; sleep 0.3; done; echo end";
    for to in ["1", "2"] {
        let (memory, outcome, _) = capture(&idle("2s", &talks.replace("TO", to)));
        assert_eq!(outcome, Ok(()));
        assert!(memory.bytes("").ends_with(b"end\n"));
    }
}

/// However silent it is, and whatever it has printed.
#[test]
fn the_end_of_the_run_ends_the_command() {
    for command in ["sleep 600", "echo half; sleep 600", "echo all; exec >&-; sleep 600"] {
        let (stream, _) = source(&lines(command)).unwrap().stream();
        let mut memory = Memory::default();
        let over = memory.over.clone();
        let began = Instant::now();
        let outcome = std::thread::scope(|scope| {
            let capture = scope.spawn(|| (stream.capture)(&mut memory));
            over.store(true, Ordering::Relaxed);
            capture.join().unwrap()
        });
        assert_eq!(outcome, Err("interrupted".into()), "{command}");
        assert!(began.elapsed() < Duration::from_secs(30), "{command}");
    }
}

#[test]
fn a_program_that_is_not_there_is_named_before_anything_starts() {
    for (lines, missing) in [
        (lines("no_such_dump --all | gzip"), "no_such_dump"),
        ("name = 'x'\ncommand = ['no_such_dump', '--all']\n".to_owned(), "no_such_dump"),
        ("name = 'x'\ncommand = ['/no/such/dump']\n".to_owned(), "/no/such/dump"),
        ("name = 'x'\ncommand = ['/etc/passwd']\n".to_owned(), "/etc/passwd"),
        ("name = 'x'\ntar = ['no_such_tar']\n".to_owned(), "no_such_tar"),
    ] {
        let error = source(&lines).unwrap().check().expect_err(&lines);
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.starts_with(&format!("{missing}: no such program")), "{error}");
    }
    for lines in [
        lines("if true; then echo; fi"),
        lines("A=b; echo $A"),
        lines("(cd / && tar -c .)"),
        lines("echo"),
    ] {
        source(&lines).unwrap().check().expect(&lines);
    }
}

#[test]
fn what_makes_no_sense_in_a_profile_is_refused() {
    for (lines, words) in [
        ("command = 'x'\n", "needs a name"),
        ("name = 'files'\ncommand = 'x'\n", "paths are called that"),
        ("name = 'a/b'\ncommand = 'x'\n", "has a `/`"),
        ("name = '..'\ncommand = 'x'\n", "means another directory"),
        ("name = 'a'\ncommand = 'x'\ntar = 'y'\n", "exactly one"),
        ("name = 'a'\ntar = 'y'\nends_with = 'z'\n", "leave ends_with away"),
    ] {
        let error = source(lines).err().expect(lines);
        assert!(error.kind == ErrorKind::Usage && error.message.contains(words), "{error}");
    }
    let blank = source(&format!("{}ends_with = ' '\n", lines("x"))).unwrap();
    assert!(blank.check().is_err());
    assert!(source(&lines("")).unwrap().check().is_err());
}

/// The stream is cut, and the exit status is 0 all the same.
#[test]
fn a_stream_without_its_known_end_fails_the_source() {
    let dump = "seq 1 1000; printf -- '-- Dump completed on 2026-11-28\\n'";
    let cut = |bytes: &str| {
        format!(
            "{}ends_with = '-- Dump completed'\n",
            lines(&format!("{{ {dump}; }} | head -c {bytes}"))
        )
    };
    let (memory, outcome, _) = capture(&cut("99999"));
    assert_eq!(outcome, Ok(()));
    let whole = memory.bytes("").len();
    for bytes in [whole / 2, whole - 1] {
        fails(&cut(&bytes.to_string()), &["cut off", "-- Dump completed"]);
    }
    fails(&cut("0"), &["gave nothing"]);
}

/// What a profile gives by name is given, and all else of the environment is passed on.
#[test]
fn what_opens_the_repository_is_not_for_commands_and_hooks() {
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str| home.path().join(name);
    let text = format!(
        "[repositories.r]\nurl = '{}'\n[profiles.p]\nrepositories = ['r']\n\
         hooks.before = [{{ run = 'env >{}' }}]\n\
         sources = [{{ name = 'env', command = 'env', environment = {{ ESKER_TO_KEY_FILE = '/given' }} }}]\n",
        place("repository").display(),
        place("hook").display()
    );
    fs::write(place("esker.toml"), text).unwrap();
    let esker = |arguments: &[&str]| {
        let mut command = program::command(home.path(), arguments);
        command.env("ESKER_CONFIG", place("esker.toml")).env("OTHER", "passed-on");
        command.env("ESKER_PASSWORD", "sesame-1").env("ESKER_FTP_PASSWORD", "sesame-2");
        let run = Run::of(command.output().unwrap());
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.err);
        run.out
    };
    esker(&["-r", "r", "init"]);
    esker(&["run", "p"]);
    let source = esker(&["-r", "r", "dump", "latest:env"]);
    let hook = fs::read_to_string(place("hook")).unwrap();
    for environment in [&source, &hook] {
        assert!(environment.contains("OTHER=passed-on"), "{environment}");
        assert!(!environment.contains("sesame"), "{environment}");
    }
    assert!(source.contains("ESKER_TO_KEY_FILE=/given"), "{source}");
}
