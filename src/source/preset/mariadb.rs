//! MariaDB and MySQL: each database with its routines, triggers and events; views, and users with what they may do, are
//! files of their own.

use std::collections::BTreeMap;

use super::caller::{Caller, words};
use super::fingerprint::{Count, Database, Fingerprint};
use super::mariadb_users;
use super::mariadb_views::{self, ACCOUNTS, DIRECTORY, PLACEHOLDERS, View};
use super::names::{choose, file_of, name_of};
use super::step::CommandStep;
use super::{FINGERPRINT, RestoreStep, Stored, give_bytes, give_fingerprint};
use crate::backup::Sink;
use crate::config::profile::{MariadbPreset, Passwords, Users};
use crate::repository::Result;
use crate::source::end::Tail;
use crate::source::usage;

const USERS: &str = "users.sql";
const CLIENT: &[&str] = &["mariadb", "mysql"];
const DUMP: &[&str] = &["mariadb-dump", "mysqldump"];
/// Databases that every server makes itself.
const OWN: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// The client has one of two names, and is looked for where it runs.
const CLIENT_SCRIPT: &str = r#"if command -v mariadb >/dev/null 2>&1; then c=mariadb; else c=mysql; fi
"#;
/// Nothing is loaded unless the old database could be dropped.
const DATABASE_SCRIPT: &str =
    r#"drop=$1; shift; "$c" "$@" -e "$drop" </dev/null && exec "$c" "$@""#;
const SCRIPT: &str = r#"exec "$c" "$@""#;

/// Gives statements to the server; what they print.
pub(super) type Ask<'a> = dyn Fn(&str) -> std::result::Result<String, String> + 'a;

pub struct Mariadb {
    settings: MariadbPreset,
}

/// The tools' names, where they run.
struct Tools {
    client: String,
    dump: String,
}

impl Mariadb {
    pub fn new(settings: MariadbPreset) -> Mariadb {
        Mariadb { settings }
    }

    pub fn check(&self, caller: &Caller) -> Result<()> {
        self.tools(caller)?;
        self.passwords().map(drop)
    }

    fn tools(&self, caller: &Caller) -> Result<Tools> {
        let mut found = caller.tools(&[CLIENT, DUMP])?.into_iter();
        match (found.next(), found.next()) {
            (Some(client), Some(dump)) => Ok(Tools { client, dump }),
            _ => Err(usage("mariadb and mariadb-dump: no such programs")),
        }
    }

    /// Lines of `user@host password` that restored users are to have.
    fn passwords(&self) -> Result<Vec<mariadb_users::Password>> {
        match &self.settings.passwords {
            Some(Passwords::From(file)) => mariadb_users::read_passwords(file),
            Some(Passwords::Keep) | None => Ok(Vec::new()),
        }
    }

    fn connection(&self, words: &mut Vec<String>) {
        let settings = &self.settings;
        words.extend(settings.host.iter().map(|host| format!("--host={host}")));
        words.extend(settings.port.iter().map(|port| format!("--port={port}")));
        words.extend(settings.socket.iter().map(|socket| format!("--socket={}", socket.display())));
        words.extend(settings.user.iter().map(|user| format!("--user={user}")));
        words.push("--default-character-set=utf8mb4".into());
    }

    /// What statements print: a line for each row, columns between tabs, as they are.
    fn ask(
        &self,
        caller: &Caller,
        client: &str,
        statements: &str,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<String, String> {
        let mut command = words(&[client, "--batch", "--raw", "--skip-column-names"]);
        self.connection(&mut command);
        command.extend(["-e".to_owned(), statements.to_owned()]);
        caller.output(&command, over)
    }

    fn databases(
        &self,
        caller: &Caller,
        client: &str,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Vec<String>, String> {
        let query = "SELECT HEX(schema_name) FROM information_schema.schemata ORDER BY schema_name";
        let printed = self.ask(caller, client, query, over)?;
        let names = printed.lines().map(text_of_hex).collect::<std::result::Result<Vec<_>, _>>()?;
        let there = names.into_iter().filter(|name| !OWN.contains(&name.as_str())).collect();
        let (chosen, but) = (&self.settings.databases, &self.settings.exclude_databases);
        choose(there, chosen.as_deref(), but.as_deref())
    }

    pub fn capture(&self, caller: &Caller, sink: &mut dyn Sink) -> std::result::Result<(), String> {
        let tools = self.tools(caller).map_err(|error| error.message)?;
        let client = &tools.client;
        let databases = self.databases(caller, client, &|| sink.interrupted())?;
        let with_users = self.settings.users != Some(Users::Exclude);
        if databases.is_empty() && !with_users {
            return Err("there is no database to save".into());
        }
        let dump = self.dump(caller, &tools, &|| sink.interrupted())?;
        let mut fingerprint = Fingerprint { kind: "mariadb".into(), ..Fingerprint::default() };
        let mut placeholders = String::new();
        for name in databases {
            let whole = self.arguments().is_empty();
            let count = |sink: &dyn Sink| match whole {
                true => self.count(caller, client, &name, &|| sink.interrupted()),
                // arguments may leave out tables or rows
                false => Ok(Database::default()),
            };
            self.tell_of_engines(caller, client, &name, sink)?;
            let views = self.views(caller, client, &name, &|| sink.interrupted())?;
            placeholders += &mariadb_views::placeholders(&name, &views);
            // a dump cannot share another's view of the data: what changes meanwhile becomes a range
            let before = count(sink)?;
            self.capture_database(caller, sink, &dump, &name, &views)
                .map_err(|message| format!("database {name}: {message}"))?;
            let after = count(sink)?;
            let of = |database| Fingerprint {
                kind: String::new(),
                databases: BTreeMap::from([(name.clone(), database)]),
            };
            fingerprint.databases.extend(Fingerprint::around(of(before), of(after)).databases);
        }
        if !placeholders.is_empty() {
            give_bytes(sink, PLACEHOLDERS.as_bytes(), placeholders.as_bytes())?;
        }
        if with_users {
            let over = &|| sink.interrupted();
            let ask = |statements: &str| self.ask(caller, client, statements, over);
            let users = mariadb_users::dump(&ask)?;
            give_bytes(sink, USERS.as_bytes(), users.all.as_bytes())?;
            if !placeholders.is_empty() {
                give_bytes(sink, ACCOUNTS.as_bytes(), users.accounts.as_bytes())?;
            }
            for user in users.unknown {
                sink.note(
                    USERS.as_bytes(),
                    &format!("user {user} is left out: the server does not know it"),
                );
            }
        }
        give_fingerprint(sink, &fingerprint)
    }

    fn arguments(&self) -> &[String] {
        self.settings.arguments.as_deref().unwrap_or_default()
    }

    fn views(
        &self,
        caller: &Caller,
        client: &str,
        database: &str,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Vec<View>, String> {
        let ask = |statements: &str| self.ask(caller, client, statements, over);
        let mut views = mariadb_views::list(&ask, database)?;
        views.retain(|view| !mariadb_views::is_left_out(self.arguments(), database, &view.name));
        Ok(views)
    }

    /// Views first: one that is made while the database is dumped is in the dump then, and none is in neither.
    fn capture_database(
        &self,
        caller: &Caller,
        sink: &mut dyn Sink,
        dump: &[String],
        name: &str,
        views: &[View],
    ) -> std::result::Result<(), String> {
        let arguments = self.arguments();
        let mut capture = |path: String, words: Vec<String>| {
            let dump = [dump, &words].concat();
            caller.capture(sink, path.as_bytes(), &dump, &mut Tail::new(whole_dump)).map(drop)
        };
        if !views.is_empty() {
            let mut only = words(&["--no-data", "--skip-triggers"]);
            only.extend_from_slice(arguments);
            only.extend(["--".to_owned(), name.to_owned()]);
            only.extend(views.iter().map(|view| view.name.clone()));
            capture(format!("{DIRECTORY}{}", file_of(name)), only)?;
        }
        let mut rest = words(&["--routines", "--triggers", "--events"]);
        rest.extend(views.iter().map(|view| format!("--ignore-table={name}.{}", view.name)));
        rest.extend_from_slice(arguments);
        rest.extend(["--databases".to_owned(), "--".to_owned(), name.to_owned()]);
        capture(file_of(name), rest)
    }

    /// The beginning of every dump.
    fn dump(
        &self,
        caller: &Caller,
        tools: &Tools,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Vec<String>, String> {
        let mut dump = words(&[&tools.dump]);
        self.connection(&mut dump);
        dump.extend(words(&[
            "--single-transaction",
            "--quick",
            "--hex-blob",
            "--no-tablespaces",
            "--skip-dump-date",
        ]));
        let version = caller.output(&words(&[&tools.dump, "--version"]), over)?;
        if !version.contains("MariaDB") {
            // which transactions a server has seen is not a database's to say
            dump.push("--set-gtid-purged=OFF".into());
        }
        Ok(dump)
    }

    fn count(
        &self,
        caller: &Caller,
        client: &str,
        database: &str,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Database, String> {
        let schema = literal(database);
        let tables = self.ask(
            caller,
            client,
            &format!(
                "SELECT HEX(table_name) FROM information_schema.tables WHERE table_schema = {schema} \
                 AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY table_name"
            ),
            over,
        )?;
        let names = tables.lines().map(text_of_hex).collect::<std::result::Result<Vec<_>, _>>()?;
        let mut statements =
            "SET NAMES utf8mb4; SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
            START TRANSACTION WITH CONSISTENT SNAPSHOT;"
                .to_owned();
        for (what, query) in [
            ("views", "views WHERE table_schema"),
            ("routines", "routines WHERE routine_schema"),
            ("triggers", "triggers WHERE trigger_schema"),
            ("events", "events WHERE event_schema"),
        ] {
            statements +=
                &format!("SELECT '{what}', COUNT(*) FROM information_schema.{query} = {schema};");
        }
        for name in &names {
            statements +=
                &format!("SELECT COUNT(*) FROM {}.{};", identifier(database), identifier(name));
        }
        let printed = self.ask(caller, client, &statements, over)?;
        let (mut others, mut rows) = (BTreeMap::new(), Vec::new());
        for line in printed.lines() {
            let number = |text: &str| {
                text.parse::<u64>()
                    .map_err(|_| format!("{client} gave {line:?} where it counted rows"))
            };
            match line.split_once('\t') {
                Some((what, count)) => drop(others.insert(what.to_owned(), number(count)?)),
                None => rows.push(Count::Exact(number(line)?)),
            }
        }
        match rows.len() == names.len() {
            true => Ok(Database { tables: Some(names.into_iter().zip(rows).collect()), others }),
            false => Err(format!("{client} counted {} of {} tables", rows.len(), names.len())),
        }
    }

    /// Which tables do not belong to the one moment of a dump.
    fn tell_of_engines(
        &self,
        caller: &Caller,
        client: &str,
        database: &str,
        sink: &mut dyn Sink,
    ) -> std::result::Result<(), String> {
        let query = format!(
            "SELECT COUNT(*), GROUP_CONCAT(DISTINCT t.engine) FROM information_schema.tables t \
             JOIN information_schema.engines e ON e.engine = t.engine \
             WHERE t.table_schema = {} AND t.table_type = 'BASE TABLE' AND e.transactions <> 'YES'",
            literal(database)
        );
        let printed = self.ask(caller, client, &query, &|| sink.interrupted())?;
        match printed.trim().split_once('\t') {
            Some((count, engines)) if count != "0" => {
                let text = format!(
                    "{count} tables of {engines} have no transactions: what was written to them during the dump may be in it or not"
                );
                sink.note(file_of(database).as_bytes(), &text);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub fn fingerprint(
        &self,
        caller: &Caller,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Fingerprint, String> {
        let tools = self.tools(caller).map_err(|error| error.message)?;
        let mut fingerprint = Fingerprint { kind: "mariadb".into(), ..Fingerprint::default() };
        for name in self.databases(caller, &tools.client, over)? {
            let counted = self.count(caller, &tools.client, &name, over)?;
            fingerprint.databases.insert(name, counted);
        }
        Ok(fingerprint)
    }

    /// Databases; then views, which may need all of them, and users with rights. What changes users who are there comes
    /// last: a password that is restored might be the one we came in with.
    pub fn restore_steps(&self, caller: &Caller, stored: &Stored) -> Result<Vec<RestoreStep>> {
        let mut steps = Vec::new();
        let passwords = self.passwords()?;
        let mut connection = Vec::new();
        self.connection(&mut connection);
        let step = |path: &str, what: String, rest: &str, more: Vec<String>| {
            let text = format!("{CLIENT_SCRIPT}{rest}");
            let words = [words(&["sh", "-c", &text, "esker"]), more, connection.clone()].concat();
            CommandStep::new(path.as_bytes(), what, caller.reader(&words))
        };
        let with_users = self.settings.users != Some(Users::Exclude);
        let paths = || stored.keys().filter_map(|path| std::str::from_utf8(path).ok());
        let of_databases = paths().filter(|path| !path.contains('/') && *path != FINGERPRINT);
        for (path, name) in of_databases.filter_map(|path| Some((path, name_of(path.as_bytes())?)))
        {
            // tables of other databases may refer to it: they will find it again
            let drop = format!(
                "SET SESSION foreign_key_checks = 0; DROP DATABASE IF EXISTS {}",
                identifier(&name)
            );
            steps.push(step(path, format!("restore database {name}"), DATABASE_SCRIPT, vec![drop]));
        }
        let before_views = [
            (PLACEHOLDERS, "make placeholders of views", true),
            (ACCOUNTS, "make users and give them rights", with_users),
        ];
        for (path, what, wanted) in before_views {
            if wanted && stored.contains_key(path.as_bytes()) {
                steps.push(step(path, what.to_owned(), SCRIPT, Vec::new()));
            }
        }
        for path in paths() {
            let file = path.strip_prefix(DIRECTORY);
            if let Some(name) = file.and_then(|file| name_of(file.as_bytes())) {
                let what = format!("restore views of {name}");
                steps.push(step(path, what, SCRIPT, vec![format!("--database={name}")]));
            }
        }
        if with_users && stored.contains_key(USERS.as_bytes()) {
            let mut users = step(USERS, "restore users".to_owned(), SCRIPT, Vec::new());
            users.after = mariadb_users::set_passwords(&passwords);
            steps.push(users);
        }
        Ok(steps.into_iter().map(RestoreStep::Command).collect())
    }
}

/// Text that was printed as hexadecimal digits, so that nothing in it could be taken for a separator.
pub(super) fn text_of_hex(line: &str) -> std::result::Result<String, String> {
    let wrong = || format!("the server gave {line:?} where it was asked for a name");
    let digits = line.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(text, 16).ok()
    };
    let bytes: Option<Vec<u8>> = digits.chunks_exact(2).map(byte).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)
}

pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A string, whatever the server's mode makes of backslashes.
pub(super) fn literal(text: &str) -> String {
    let digits: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
    match digits.is_empty() {
        true => "''".into(),
        false => format!("CONVERT(0x{digits} USING utf8mb4)"),
    }
}

fn whole_dump(tail: &[u8]) -> std::result::Result<(), String> {
    let text = String::from_utf8_lossy(tail);
    let last =
        text.strip_suffix('\n').and_then(|text| text.lines().next_back()).unwrap_or_default();
    match last.starts_with("-- Dump completed") {
        true => Ok(()),
        false => Err("the dump is cut off: it does not end with \"-- Dump completed\"".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_whole_to_its_last_byte() {
        for dump in ["x;\n-- Dump completed\n", "x;\n\n-- Dump completed on 2026-11-28  1:02:03\n"]
        {
            assert_eq!(whole_dump(dump.as_bytes()), Ok(()));
            assert!(whole_dump(&dump.as_bytes()[..dump.len() - 1]).is_err());
            assert!(whole_dump(format!("{dump}x;\n").as_bytes()).is_err());
        }
        assert!(whole_dump(b"").is_err());
    }

    #[test]
    fn names_pass_as_hexadecimal_digits() {
        assert_eq!(text_of_hex("C3BC0A27"), Ok("ü\n'".into()));
        assert!(
            text_of_hex("C3B").is_err() && text_of_hex("zz").is_err() && text_of_hex("FF").is_err()
        );
        assert_eq!(identifier("a`b"), "`a``b`");
        assert_eq!(literal("a'"), "CONVERT(0x6127 USING utf8mb4)");
    }
}
