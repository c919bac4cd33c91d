//! Presets against real servers: `tests/sources/run` starts one after the other and names it in a variable. Where nobody
//! did, the test says so and has nothing to do.

use std::path::Path;
use std::process::{Command, Stdio};

use esker::source::preset::{Fingerprint, compare_fingerprint};

use crate::memory::{Memory, capture, fails, preset, restore, script, source};

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("{name} names no server");
    }
    value
}

/// A client's output; it must succeed.
fn run(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What cuts the output of a command to a part, and says that all is well. `$tool` is a word of the command.
const CUT: &str = r#"hit=; for word do case $word in *"$tool"*) hit=yes;; esac; done
[ -n "$hit" ] || exec "$@"
f=$(mktemp); "$@" >"$f"; n=$(wc -c <"$f")
case $how in none) n=0;; half) n=$((n / 2));; last) n=$((n - 1));; esac
head -c "$n" "$f"; rm "$f"; exit 0"#;

/// Each of the tools' streams, cut at 0, at the half and by the last byte, fails the source: here, and through another
/// command. `lines` has `ENVIRONMENT` and `THROUGH` where these belong.
fn every_cut_fails(lines: &str, tools: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let carrier = directory.path().join("carrier");
    script(&carrier, &format!("how=$1 tool=$2; shift 2\n{CUT}"));
    let path = std::env::var("PATH").unwrap();
    for (program, mark) in tools {
        for how in ["none", "half", "last"] {
            let through = format!(", through = ['{}', '{how}', '{mark}']", carrier.display());
            fails(&lines.replace("ENVIRONMENT", "").replace("THROUGH", &through), &["cut off"]);

            let real = path
                .split(':')
                .map(|place| Path::new(place).join(program))
                .find(|file| file.exists());
            let bin = directory.path().join(format!("{program}-{how}"));
            std::fs::create_dir_all(&bin).unwrap();
            let real = real.unwrap();
            script(
                &bin.join(program),
                &format!("how={how} tool={mark}; set -- {} \"$@\"\n{CUT}", real.display()),
            );
            let environment = format!("environment = {{ PATH = '{}:{path}' }}\n", bin.display());
            let words = if how == "none" { "gave nothing" } else { "cut off" };
            fails(&lines.replace("ENVIRONMENT", &environment).replace("THROUGH", ""), &[words]);
        }
    }
}

fn stored_fingerprint(memory: &Memory) -> Fingerprint {
    Fingerprint::parse(memory.bytes("fingerprint.json")).unwrap()
}

/// Users and grants. MariaDB shows a proxy twice that was granted anew, and rights in the order in which they were given.
fn users(memory: &Memory) -> Vec<String> {
    let text = String::from_utf8_lossy(&memory.files["users.sql"].1).into_owned();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// Where a proxy that was granted anew shows.
fn is_of_users(name: &str) -> bool {
    matches!(name, "users.sql" | "views/accounts")
}

/// Captures here and through another command; both must give the same.
fn captured(lines: &str) -> Memory {
    let here = lines.replace("ENVIRONMENT", "").replace("THROUGH", "");
    source(&here).unwrap().check().unwrap();
    let (memory, outcome, told) = capture(&here);
    assert_eq!(outcome, Ok(()), "{}", String::from_utf8_lossy(&told.log.bytes()));
    memory
}

/// Files that differ between two captures.
fn different(one: &Memory, other: &Memory) -> Vec<String> {
    let text = |memory: &Memory, path: &str| {
        let bytes = memory.files.get(path).map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        // a word of chance, against commands within data
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.starts_with(b"\\restrict") && !line.starts_with(b"\\unrestrict"));
        lines.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let paths: std::collections::BTreeSet<&String> =
        one.files.keys().chain(other.files.keys()).collect();
    paths.into_iter().filter(|path| text(one, path) != text(other, path)).cloned().collect()
}

#[test]
fn postgresql_comes_back_as_it_was() {
    let Some(place) = variable("ESKER_TEST_POSTGRES") else {
        return;
    };
    let (host, port) = place.rsplit_once(':').unwrap();
    let password = std::env::var("ESKER_TEST_PASSWORD").unwrap();
    let sql = |database: &str, statements: &str| {
        let mut psql = Command::new("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            host,
            "-p",
            port,
            "-U",
            "postgres",
            "-d",
            database,
            "-f",
            "-",
        ]);
        run(psql.env("PGPASSWORD", &password), statements)
    };
    sql(
        "postgres",
        "CREATE ROLE \"shop owner\" LOGIN PASSWORD 'x'; CREATE ROLE readers; GRANT readers TO \"shop owner\";
         CREATE DATABASE shop OWNER \"shop owner\"; CREATE DATABASE \"a/b ü'\"; CREATE DATABASE globals; CREATE DATABASE left_out;
         ALTER DATABASE shop SET search_path TO public, extra;",
    );
    sql(
        "shop",
        "CREATE SCHEMA extra; CREATE TYPE mood AS ENUM ('gut', 'schlecht');
         CREATE TABLE orders (id serial PRIMARY KEY, name text, picture bytea, how mood DEFAULT 'gut', at timestamptz);
         INSERT INTO orders (name, picture, at) SELECT 'Käufer ' || n || E'\\n\\t\\\\.', decode(md5(n::text), 'hex'), 'epoch' FROM generate_series(1, 5000) n;
         CREATE TABLE extra.\"odd \"\"table\" (x int); INSERT INTO extra.\"odd \"\"table\" VALUES (1), (2);
         CREATE TABLE parted (n int) PARTITION BY RANGE (n);
         CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10); INSERT INTO parted VALUES (1), (2), (3);
         CREATE VIEW recent AS SELECT name FROM orders WHERE id > 10;
         CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM orders;
         CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at = now(); RETURN NEW; END $$;
         CREATE PROCEDURE nothing() LANGUAGE sql AS $$ SELECT 1 $$;
         CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
         ALTER TABLE orders OWNER TO \"shop owner\"; GRANT SELECT ON orders TO readers;
         SELECT lo_from_bytea(4711, 'a large object'); CREATE TABLE ticks (n bigserial);",
    );
    sql("a/b ü'", "CREATE TABLE t (x text); INSERT INTO t VALUES ('\u{1F600}');");
    let secret = toml::Value::from(password.clone());
    let lines = format!(
        "name = 'pg'\nENVIRONMENT\npreset = {{ kind = 'postgresql', host = '{host}', port = {port}, user = 'postgres', password = {secret}, exclude_databases = ['left_out'] THROUGH }}\n"
    );
    let plain = lines.replace("ENVIRONMENT", "").replace("THROUGH", "");

    let before = captured(&lines);
    let names: Vec<&String> = before.files.keys().collect();
    assert_eq!(
        names,
        [
            "%67lobals.sql",
            "a%2Fb ü'.sql",
            "fingerprint.json",
            "globals.sql",
            "postgres.sql",
            "shop.sql"
        ]
    );
    let stored = stored_fingerprint(&before);
    let shop = &stored.databases["shop"];
    let tables: Vec<&String> = shop.tables.as_ref().unwrap().keys().collect();
    assert_eq!(tables, ["extra.odd \"table", "public.orders", "public.parted_1", "public.ticks"]);
    assert_eq!(shop.others["views"], 2);
    assert_eq!(shop.others["large objects"], 1);

    // the same through another command, which must give the very same
    let through = lines.replace("ENVIRONMENT", "").replace("THROUGH", ", through = ['env', '--']");
    source(&through).unwrap().check().unwrap();
    let (there, outcome, _) = capture(&through);
    assert_eq!((outcome, different(&before, &there)), (Ok(()), vec![]));

    // all is lost
    sql(
        "postgres",
        "DROP DATABASE shop; DROP DATABASE \"a/b ü'\"; DROP DATABASE globals; DROP ROLE readers; DROP ROLE \"shop owner\";",
    );
    let lost = preset(&plain).fingerprint(&|| false).unwrap().unwrap();
    assert_eq!(compare_fingerprint(&stored, &lost).len(), 3);
    restore(&preset(&plain), &before).unwrap();
    let found = preset(&plain).fingerprint(&|| false).unwrap().unwrap();
    assert_eq!(compare_fingerprint(&stored, &found), [""; 0]);
    assert_eq!(different(&before, &captured(&lines)), [""; 0]);
    // over what is there, and through another command
    sql("shop", "DELETE FROM orders WHERE id < 100; DROP VIEW recent;");
    let found = preset(&plain).fingerprint(&|| false).unwrap().unwrap();
    assert_eq!(compare_fingerprint(&stored, &found).len(), 2);
    restore(&preset(&through), &before).unwrap();
    assert_eq!(different(&before, &captured(&lines)), [""; 0]);
    assert_eq!(sql("shop", "SELECT convert_from(lo_get(4711), 'UTF8')"), "a large object\n");

    // what is counted is what is dumped, whatever is written meanwhile
    let stop = std::sync::atomic::AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                sql("shop", &"INSERT INTO ticks DEFAULT VALUES;\n".repeat(200));
            }
        });
        while sql("shop", "SELECT count(*) FROM ticks") == "0\n" {}
        let outcome = capture(&plain);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        outcome
    });
    assert_eq!(busy.1, Ok(()));
    let dump = String::from_utf8(busy.0.bytes("shop.sql").to_vec()).unwrap();
    let rows = dump
        .split_once("COPY public.ticks")
        .unwrap()
        .1
        .split_once("\\.\n")
        .unwrap()
        .0
        .lines()
        .count()
        - 1;
    let counted =
        stored_fingerprint(&busy.0).databases["shop"].tables.as_ref().unwrap()["public.ticks"]
            .to_string();
    assert_eq!(counted, rows.to_string());
    assert!(rows > 0);

    every_cut_fails(
        &lines.replace("exclude_databases", "databases = ['shop'], exclude_databases"),
        &[("pg_dump", "--create"), ("pg_dumpall", "--globals-only")],
    );
    fails(
        &plain.replace(&secret.to_string(), "'wrong'"),
        &["psql", "password authentication failed"],
    );
    fails(
        &plain.replace("exclude_databases = ['left_out']", "databases = ['postgres', 'nothere']"),
        &["no database \"nothere\""],
    );
    fails(&format!("timeout = '1ms'\n{plain}"), &["psql took longer"]);
}

#[test]
fn mariadb_comes_back_as_it_was() {
    let Some(socket) = variable("ESKER_TEST_MARIADB") else {
        return;
    };
    let password = std::env::var("ESKER_TEST_PASSWORD").unwrap();
    let as_user = |user: &str, password: &str, statements: &str| {
        let mut client = Command::new("mariadb");
        client.args([
            "--no-defaults",
            "--batch",
            "--raw",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
        ]);
        client.arg(format!("--socket={socket}")).arg(format!("--user={user}"));
        run(client.env("MYSQL_PWD", password), statements)
    };
    let sql = |statements: &str| as_user("root", &password, statements);
    sql(
        "CREATE DATABASE shop; CREATE DATABASE `a/b ü``'`; CREATE DATABASE users; CREATE DATABASE left_out; USE shop;
         CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT CHARACTER SET utf8mb4, picture BLOB, at DATETIME);
         INSERT INTO orders (name, picture) SELECT CONCAT('Käufer \u{1F600} ', seq, '\\n\\'\\\\'), UNHEX(MD5(seq)) FROM seq_1_to_5000;
         CREATE TABLE `odd ``table` (x INT); INSERT INTO `odd ``table` VALUES (1), (2);
         CREATE TABLE old (x INT) ENGINE=MyISAM; CREATE TABLE ticks (n INT);
         CREATE VIEW recent AS SELECT name FROM orders WHERE id > 10;
         DELIMITER //
         CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC BEGIN RETURN 2 * n; END//
         CREATE PROCEDURE nothing() BEGIN SELECT 1; END//
         CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW BEGIN SET NEW.at = NOW(); END//
         CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO BEGIN DELETE FROM old; END//
         DELIMITER ;
         CREATE TABLE `a/b ü``'`.t (x TEXT CHARACTER SET utf8mb4);
         CREATE TABLE `a/b ü``'`.child (id INT, FOREIGN KEY (id) REFERENCES shop.orders (id)); INSERT INTO `a/b ü``'`.child VALUES (500);
         CREATE ROLE readers; GRANT SELECT ON shop.* TO readers;
         CREATE USER `app`@`localhost` IDENTIFIED BY 'it''s old'; CREATE USER `o'dd ü`@`%` IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 5;
         GRANT readers TO `app`@`localhost`; SET DEFAULT ROLE readers FOR `app`@`localhost`;
         GRANT EXECUTE ON FUNCTION shop.twice TO `app`@`localhost`; GRANT SELECT (name) ON shop.orders TO `o'dd ü`@`%` WITH GRANT OPTION;",
    );
    // views that read what is restored later, of each other's databases, of a later function, and of a user's own rights
    sql(
        "CREATE USER `viewer`@`localhost`; GRANT SELECT ON shop.* TO `viewer`@`localhost`; GRANT EXECUTE ON FUNCTION shop.twice TO `viewer`@`localhost`;
         CREATE DEFINER=`viewer`@`localhost` VIEW shop.`of viewer` AS SELECT shop.twice(id) AS twice, name FROM shop.orders WHERE id < 100;
         CREATE VIEW `a/b ü``'`.`over ``it` AS SELECT twice AS `its ``column`, name FROM shop.`of viewer`;
         CREATE VIEW shop.back AS SELECT * FROM `a/b ü``'`.`over ``it`; CREATE VIEW users.names AS SELECT name FROM shop.back;
         GRANT SELECT ON shop.back TO `o'dd ü`@`%`; GRANT SELECT (name) ON shop.`of viewer` TO `o'dd ü`@`%`;
         DELIMITER //
         CREATE TRIGGER `a/b ü``'`.noted AFTER INSERT ON `a/b ü``'`.t FOR EACH ROW BEGIN INSERT INTO shop.ticks VALUES (1); END//
         CREATE EVENT users.weekly ON SCHEDULE EVERY 1 WEEK DO BEGIN DELETE FROM shop.old; END//
         CREATE PROCEDURE `a/b ü``'`.elsewhere() BEGIN SELECT COUNT(*) FROM shop.back; END//
         DELIMITER ;",
    );
    let views = || {
        sql(
            "SELECT COUNT(*), MAX(twice) FROM shop.`of viewer`; SELECT COUNT(*) FROM shop.back; SELECT COUNT(*) FROM users.names; CALL `a/b ü``'`.elsewhere();",
        )
    };
    let rows = "99\t198\n99\n99\n99\n";
    assert_eq!(views(), rows);
    let secret = toml::Value::from(password.clone());
    let lines = format!(
        "name = 'db'\nENVIRONMENT\npreset = {{ kind = 'mariadb', socket = '{socket}', user = 'root', password = {secret}, exclude_databases = ['left_out'] THROUGH }}\n"
    );
    let plain = lines.replace("ENVIRONMENT", "").replace("THROUGH", "");
    let before = captured(&lines);
    let names: Vec<&String> = before.files.keys().collect();
    assert_eq!(
        names,
        [
            "%75sers.sql",
            "a%2Fb ü`'.sql",
            "fingerprint.json",
            "shop.sql",
            "users.sql",
            "views/%75sers.sql",
            "views/a%2Fb ü`'.sql",
            "views/accounts",
            "views/placeholders",
            "views/shop.sql"
        ]
    );
    // the server looks up no names
    let engines = "shop.sql: 1 tables of MyISAM have no transactions: what was written to them during the dump may be in it or not";
    assert_eq!(before.notes[0], engines);
    assert!(
        before.notes[1..].iter().all(|note| note.starts_with("users.sql: user `root`@")),
        "{:?}",
        before.notes
    );
    let stored = stored_fingerprint(&before);
    let shop = &stored.databases["shop"];
    assert_eq!(shop.tables.as_ref().unwrap().len(), 4);
    let others: Vec<(&str, u64)> =
        shop.others.iter().map(|(what, count)| (what.as_str(), *count)).collect();
    assert_eq!(others, [("events", 1), ("routines", 2), ("triggers", 1), ("views", 3)]);

    let through = lines.replace("ENVIRONMENT", "").replace("THROUGH", ", through = ['env', '--']");
    source(&through).unwrap().check().unwrap();
    let (there, outcome, _) = capture(&through);
    assert_eq!((outcome, different(&before, &there)), (Ok(()), vec![]));

    let lose = "DROP DATABASE shop; DROP DATABASE `a/b ü``'`; DROP DATABASE users; DROP USER `app`@`localhost`, `viewer`@`localhost`, `o'dd ü`@`%`; DROP ROLE readers;";
    let lose = &format!("SET foreign_key_checks = 0; {lose}");
    sql(lose);
    let lost = preset(&plain).fingerprint(&|| false).unwrap().unwrap();
    assert_eq!(compare_fingerprint(&stored, &lost).len(), 3);
    restore(&preset(&plain), &before).unwrap();
    let found = preset(&plain).fingerprint(&|| false).unwrap().unwrap();
    assert_eq!(compare_fingerprint(&stored, &found), [""; 0]);
    assert_eq!(views(), rows);
    let after = captured(&lines);
    assert_eq!(users(&before), users(&after));
    assert!(different(&before, &after).iter().all(|name| is_of_users(name)));
    assert_eq!(
        as_user("app", "it's old", "SELECT shop.twice(21), COUNT(*) FROM shop.orders"),
        "42\t5000\n"
    );

    // on an empty server whose administrator has another password than the one of the backup
    sql(&format!("{lose} ALTER USER root@localhost IDENTIFIED BY 'of the new server';"));
    let fresh = plain.replace(&secret.to_string(), "'of the new server'");
    restore(&preset(&fresh), &before).unwrap();
    assert_eq!((views().as_str(), users(&captured(&lines))), (rows, users(&before)));

    // one database alone: its file, then its views
    sql("SET foreign_key_checks = 0; DROP DATABASE `a/b ü``'`");
    for (file, database) in [("a%2Fb ü`'.sql", "shop"), ("views/a%2Fb ü`'.sql", "a/b ü`'")] {
        let text = String::from_utf8(before.bytes(file).to_vec()).unwrap();
        sql(&format!("USE `{}`;\n{text}", database.replace('`', "``")));
    }
    assert_eq!(views(), rows);

    // over what is there, through another command, and with other passwords
    sql(
        "DELETE FROM shop.orders WHERE id < 100; DROP VIEW shop.recent; SET PASSWORD FOR `app`@`localhost` = PASSWORD('other');",
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("passwords");
    std::fs::write(&file, "app@localhost it's \\ new\n").unwrap();
    let renew = through
        .replace(", through", &format!(", passwords = {{ from = '{}' }}, through", file.display()));
    restore(&preset(&renew), &before).unwrap();
    assert_eq!(different(&before, &captured(&lines)), ["users.sql", "views/accounts"]);
    assert_eq!(as_user("app", "it's \\ new", "SELECT COUNT(*) FROM shop.orders"), "5000\n");
    std::fs::write(&file, "nobody@nowhere x\n").unwrap();
    let message = restore(&preset(&renew), &before).unwrap_err();
    assert!(message.contains("restore users") && message.contains("nobody"), "{message}");
    restore(&preset(&plain), &before).unwrap();
    let again = captured(&lines);
    assert_eq!(users(&before), users(&again));
    assert!(different(&before, &again).iter().all(|name| is_of_users(name)));

    // users stay out
    let without = plain.replace("exclude_databases", "users = 'exclude', exclude_databases");
    let (memory, outcome, _) = capture(&without);
    assert_eq!(outcome, Ok(()));
    assert!(!memory.files.contains_key("users.sql"));
    assert!(preset(&without).restore_steps(&before.stored()).unwrap().len() == 7);

    let one = lines.replace("exclude_databases", "databases = ['shop'], exclude_databases");
    every_cut_fails(&one, &[("mariadb-dump", "--single-transaction")]);
    fails(&plain.replace(&secret.to_string(), "'wrong'"), &["mariadb", "Access denied"]);
    fails(
        &plain.replace("exclude_databases = ['left_out']", "databases = ['nothere']"),
        &["no database \"nothere\""],
    );
}

#[test]
fn redis_comes_back_as_it_was() {
    let Some(port) = variable("ESKER_TEST_REDIS") else {
        return;
    };
    let password = std::env::var("ESKER_TEST_PASSWORD").unwrap();
    let redis = |commands: &str| {
        let mut client = Command::new("redis-cli");
        run(client.args(["-p", &port]).env("REDISCLI_AUTH", &password), commands)
    };
    let fill: String =
        (0..5000).map(|n| format!("SET key:{n} \"value {n} \\xff\\x00\"\n")).collect();
    redis(&fill);
    redis(
        "RPUSH list a b c\nHSET hash f v\nZADD sorted 1.5 a\nXADD stream * a b\nSET soon x EX 100000\nSELECT 3\nSET other ü\n",
    );
    redis(
        "FUNCTION LOAD \"#!lua name=mylib\\nredis.register_function('answer', function() return 42 end)\"\n",
    );
    let secret = toml::Value::from(password.clone());
    let lines = format!(
        "name = 'cache'\nENVIRONMENT\npreset = {{ kind = 'redis', host = '127.0.0.1', port = {port}, password = {secret} THROUGH }}\n"
    );
    let plain = lines.replace("ENVIRONMENT", "").replace("THROUGH", "");
    let digest = redis("DEBUG DIGEST\n");
    let before = captured(&lines);
    let stored = stored_fingerprint(&before);
    let keys = stored.databases["keys"].tables.as_ref().unwrap();
    assert_eq!(
        keys.iter().map(|(db, count)| format!("{db} {count}")).collect::<Vec<_>>(),
        ["db0 5005", "db3 1"]
    );
    let through = lines.replace("ENVIRONMENT", "").replace("THROUGH", ", through = ['env', '--']");
    source(&through).unwrap().check().unwrap();
    for lines in [&plain, &through] {
        let (memory, outcome, _) = capture(lines);
        assert_eq!(outcome, Ok(()));
        redis("FLUSHALL\nFUNCTION FLUSH\nSET stranger 1\nCONFIG SET masterauth \"as it was\"\n");
        let lost = preset(lines).fingerprint(&|| false).unwrap().unwrap();
        assert_eq!(compare_fingerprint(&stored, &lost).len(), 2);
        restore(&preset(lines), &memory).unwrap();
        assert_eq!(redis("DEBUG DIGEST\n"), digest);
        assert_eq!(redis("FCALL answer 0\n"), "42\n");
        assert!(redis("INFO replication\n").contains("role:master"));
        assert_eq!(redis("CONFIG GET masterauth\n"), "masterauth\nas it was\n");
        let found = preset(lines).fingerprint(&|| false).unwrap().unwrap();
        assert_eq!(compare_fingerprint(&stored, &found), [""; 0]);
    }
    // what is no dump never reaches the server
    let mut damaged = Memory { files: before.files.clone(), ..Memory::default() };
    let bytes = &mut damaged.files.get_mut("dump.rdb").unwrap().1;
    bytes.truncate(bytes.len() / 2);
    let message = restore(&preset(&plain), &damaged).unwrap_err();
    assert!(message.contains("does not load the dump"), "{message}");
    assert_eq!(redis("DEBUG DIGEST\n"), digest);

    every_cut_fails(&lines, &[("redis-cli", "--rdb")]);
    fails(&plain.replace(&secret.to_string(), "'wrong'"), &["redis-cli", "NOAUTH"]);
    fails(&plain.replace(&format!("port = {port}"), "port = 1"), &["redis-cli", "refused"]);
}
