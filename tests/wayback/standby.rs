//! A standby beneath a directory, of hosts that are all this machine.

use std::fs;

use super::home::Home;

/// Profiles `one` and `two` of hosts of these names, and a standby, whose settings are given.
fn sites(standby: &str) -> Home {
    let home = Home::new();
    for host in ["one", "two"] {
        home.write(&format!("{host}/file"), host.as_bytes());
    }
    configure(&home, standby);
    ["one", "two"].iter().for_each(|host| drop(home.ok(&["run", host])));
    home
}

fn configure(home: &Home, standby: &str) {
    let base = home.text("");
    let base = base.trim_end_matches('/');
    let mut text = format!(
        "[repositories.main]\nurl = '{base}/.local/share/esker/repository'\nkey_file = '{base}/key'\n"
    );
    for host in ["one", "two"] {
        text += &format!(
            "[profiles.{host}]\nrepositories = ['main']\nhost = '{host}'\n\
             [[profiles.{host}.sources]]\npaths = ['{base}/{host}']\n\
             [[profiles.{host}.sources]]\nname = 'optional'\nrequired = false\n\
             command = 'test ! -e {base}/broken && echo dump'\nrestore = 'cat >{base}/optional'\n"
        );
    }
    text += "[profiles.level]\nkind = 'standby'\nrepositories = ['main']\n";
    text += &format!("standby = {{ {} }}\n", standby.replace("BASE", base));
    home.write(".config/esker/esker.toml", text.as_bytes());
}

const ONE: &str = "host = 'one', profile = 'one', target = 'BASE/site'";

/// It is level without it, and says so; what it has of it stays.
#[test]
fn a_source_that_is_not_required_does_not_keep_a_standby_behind() {
    let home = sites(ONE);
    home.ok(&["run", "level"]);
    assert_eq!(fs::read(home.path("optional")).unwrap(), b"dump\n");
    home.write("broken", b"");
    home.write("one/new", b"new");
    home.ok(&["run", "one"]);
    let run = home.ok(&["run", "level"]);
    assert!(run.err.contains("not saved whole when it was taken: 1 source"), "{}", run.err);
    assert!(home.has(&format!("site{}", home.text("one/new"))));
    assert_eq!(fs::read(home.path("optional")).unwrap(), b"dump\n");
    assert!(home.ok(&["run", "level"]).err.contains("already"));
}

/// What was restored from elsewhere, or to elsewhere, is not what this standby should hold.
#[test]
fn a_standby_that_is_told_otherwise_restores_again() {
    let home = sites(ONE);
    home.ok(&["run", "level"]);
    assert!(home.ok(&["run", "level"]).err.contains("already"));
    configure(&home, &ONE.replace("one", "two"));
    home.ok(&["run", "level"]);
    assert!(home.has(&format!("site{}", home.text("two/file"))));
    // back again, to the snapshot that is older
    fs::remove_dir_all(home.path("site")).unwrap();
    configure(&home, ONE);
    home.ok(&["run", "level"]);
    assert!(home.has(&format!("site{}", home.text("one/file"))));
    configure(&home, &ONE.replace("BASE/site", "BASE/other"));
    home.ok(&["run", "level"]);
    assert!(home.has(&format!("other{}", home.text("one/file"))));
    assert!(home.ok(&["run", "level"]).err.contains("already"));
}
