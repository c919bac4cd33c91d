//! PostgreSQL: roles and tablespaces, then each database with `pg_dump`, as of the moment at which its rows are counted.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};

use super::caller::{Caller, words};
use super::fingerprint::{Count, Database, Fingerprint};
use super::names::{choose, file_of, name_of};
use super::step::CommandStep;
use super::{FINGERPRINT, RestoreStep, Stored, give_fingerprint};
use crate::backup::Sink;
use crate::config::profile::PostgresqlPreset;
use crate::repository::Result;
use crate::source::end::Tail;
use crate::source::process::{Feed, Running};

const GLOBALS: &str = "globals.sql";
/// Printed when psql has done all it was told.
const DONE: &str = "esker-done";

/// One line of JSON for each table with rows, and one for how many there are of other things. Tables of extensions are
/// theirs, and so is what they hold.
const COUNT: &str = r#"
SELECT format('SELECT json_build_array(%L::text, count(*)) FROM ONLY %I.%I',
  n.nspname || '.' || c.relname, n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1 \gexec
SELECT json_build_object(
  'views', (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('v', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'),
  'sequences', (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'),
  'routines', (SELECT count(*) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'),
  'triggers', (SELECT count(*) FROM pg_catalog.pg_trigger WHERE NOT tgisinternal),
  'large objects', (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata));
"#;

/// Roles that are there already are altered, and no error; so are tablespaces, which cannot be made within a block.
const GLOBALS_SCRIPT: &str = r#"sed -e 's/^CREATE ROLE \(.*\);$/DO $esker$ BEGIN CREATE ROLE \1; EXCEPTION WHEN duplicate_object THEN NULL; END $esker$;/' -e '/^CREATE TABLESPACE /{
s/^/\\set ON_ERROR_STOP 0\
/
s/$/\
\\set ON_ERROR_STOP 1/
}' | "$@""#;
/// Nothing is loaded unless the old database could be dropped.
const DATABASE_SCRIPT: &str = r#"drop=$1; shift; "$@" -c "$drop" </dev/null && exec "$@" -f -"#;

pub struct Postgresql {
    settings: PostgresqlPreset,
}

impl Postgresql {
    pub fn new(settings: PostgresqlPreset) -> Postgresql {
        Postgresql { settings }
    }

    pub fn check(&self, caller: &Caller) -> Result<()> {
        let mut tools: Vec<&[&str]> = vec![&["psql"], &["pg_dump"]];
        if self.globals() {
            tools.push(&["pg_dumpall"]);
        }
        caller.tools(&tools).map(drop)
    }

    fn globals(&self) -> bool {
        self.settings.globals.unwrap_or(true)
    }

    fn connection(&self, words: &mut Vec<String>) {
        let settings = &self.settings;
        words.extend(settings.host.iter().flat_map(|host| ["-h".to_owned(), host.clone()]));
        words.extend(settings.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        words.extend(settings.user.iter().flat_map(|user| ["-U".to_owned(), user.clone()]));
        words.push("-w".to_owned());
    }

    fn psql(&self, database: &str) -> Vec<String> {
        let mut psql = words(&["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        self.connection(&mut psql);
        psql.extend(["-d".to_owned(), named(database)]);
        psql
    }

    fn databases(
        &self,
        caller: &Caller,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Vec<String>, String> {
        let mut psql = self.psql(self.home());
        let query = "SELECT datname FROM pg_catalog.pg_database WHERE NOT datistemplate AND datallowconn ORDER BY 1";
        psql.extend(words(&["-0", "-c", query]));
        let printed = caller.output(&psql, over)?;
        let there = printed.split('\0').map(|name| name.trim_end_matches('\n').to_owned());
        let there = there.filter(|name| !name.is_empty()).collect();
        let (chosen, but) = (&self.settings.databases, &self.settings.exclude_databases);
        choose(there, chosen.as_deref(), but.as_deref())
    }

    /// A database that we may ask for others.
    fn home(&self) -> &str {
        let first = self.settings.databases.as_ref().and_then(|names| names.first());
        first.map_or("postgres", String::as_str)
    }

    pub fn capture(&self, caller: &Caller, sink: &mut dyn Sink) -> std::result::Result<(), String> {
        let databases = self.databases(caller, &|| sink.interrupted())?;
        if databases.is_empty() {
            return Err("there is no database to save".into());
        }
        if self.globals() {
            let mut dump = words(&["pg_dumpall", "--globals-only"]);
            self.connection(&mut dump);
            dump.extend(["-l".to_owned(), self.home().to_owned()]);
            caller.capture(sink, GLOBALS.as_bytes(), &dump, &mut Tail::new(whole_globals))?;
        }
        let mut fingerprint = Fingerprint { kind: "postgresql".into(), ..Fingerprint::default() };
        for name in databases {
            let database = self
                .capture_database(caller, sink, &name)
                .map_err(|message| format!("database {name}: {message}"))?;
            fingerprint.databases.insert(name, database);
        }
        give_fingerprint(sink, &fingerprint)
    }

    /// One transaction counts the rows and is what the dump sees.
    fn capture_database(
        &self,
        caller: &Caller,
        sink: &mut dyn Sink,
        name: &str,
    ) -> std::result::Result<Database, String> {
        let mut session = Session::begin(self, caller, name, &|| sink.interrupted())?;
        let counted = session.count(&|| sink.interrupted())?;
        let mut dump = words(&["pg_dump", "--format=plain", "--create"]);
        self.connection(&mut dump);
        dump.push(format!("--snapshot={}", session.snapshot));
        dump.extend(self.settings.arguments.iter().flatten().cloned());
        dump.extend(["-d".to_owned(), named(name)]);
        caller.capture(sink, file_of(name).as_bytes(), &dump, &mut Tail::new(whole_dump))?;
        session.end(&|| sink.interrupted())?;
        // arguments may leave out tables or rows
        let whole = self.settings.arguments.as_ref().is_none_or(Vec::is_empty);
        Ok(if whole { counted } else { Database::default() })
    }

    pub fn fingerprint(
        &self,
        caller: &Caller,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Fingerprint, String> {
        let mut fingerprint = Fingerprint { kind: "postgresql".into(), ..Fingerprint::default() };
        for name in self.databases(caller, over)? {
            let mut session = Session::begin(self, caller, &name, over)?;
            let counted = session.count(over)?;
            session.end(over)?;
            fingerprint.databases.insert(name, counted);
        }
        Ok(fingerprint)
    }

    /// Roles first, which own what follows. A database that is there is dropped, unless somebody is connected to it.
    pub fn restore_steps(&self, caller: &Caller, stored: &Stored) -> Result<Vec<RestoreStep>> {
        let mut steps = Vec::new();
        let script = |text: &str| words(&["sh", "-c", text, "esker"]);
        let mut psql = words(&["psql", "-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1"]);
        self.connection(&mut psql);
        psql.extend(["-d".to_owned(), named("template1")]);
        if stored.contains_key(GLOBALS.as_bytes()) {
            let command = [script(GLOBALS_SCRIPT), psql.clone()].concat();
            let what = "restore roles and tablespaces".to_owned();
            let step = CommandStep::new(GLOBALS.as_bytes(), what, caller.reader(&command));
            steps.push(RestoreStep::Command(step));
        }
        for path in stored.keys().filter(|path| *path != FINGERPRINT.as_bytes()) {
            let Some(name) = name_of(path) else {
                continue;
            };
            let drop = format!("DROP DATABASE IF EXISTS \"{}\"", name.replace('"', "\"\""));
            let command = [script(DATABASE_SCRIPT), vec![drop], psql.clone()].concat();
            let step =
                CommandStep::new(path, format!("restore database {name}"), caller.reader(&command));
            steps.push(RestoreStep::Command(step));
        }
        Ok(steps)
    }
}

/// A connection string: names may have anything in them.
fn named(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `psql` with a transaction open, whose view of the data others can take.
struct Session {
    psql: Running,
    snapshot: String,
}

impl Session {
    fn begin(
        preset: &Postgresql,
        caller: &Caller,
        database: &str,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Session, String> {
        let mut command = preset.psql(database);
        command.extend(words(&["-f", "-"]));
        let program = caller.reader(&command);
        let psql = Running::start(&program, Feed::More, caller.deadline, &caller.told.log)?;
        let mut session = Session { psql, snapshot: String::new() };
        let begin = "SET statement_timeout = 0; SET lock_timeout = 0; SET row_security = off;\n\
            SET idle_in_transaction_session_timeout = 0;\n\
            BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\nSELECT pg_catalog.pg_export_snapshot();\n";
        let answer = session.ask(begin, over)?;
        session.snapshot = answer.trim().to_owned();
        match session.snapshot.is_empty() {
            true => Err("the server gave no snapshot of a transaction".into()),
            false => Ok(session),
        }
    }

    fn count(&mut self, over: &dyn Fn() -> bool) -> std::result::Result<Database, String> {
        let answer = self.ask(COUNT, over)?;
        let (mut tables, mut others) = (BTreeMap::new(), BTreeMap::new());
        for line in answer.lines() {
            let wrong = || format!("psql gave {line:?} where it counted rows");
            if line.starts_with('[') {
                let (table, rows): (String, u64) =
                    serde_json::from_str(line).map_err(|_| wrong())?;
                tables.insert(table, Count::Exact(rows));
            } else {
                others = serde_json::from_str(line).map_err(|_| wrong())?;
            }
        }
        Ok(Database { tables: Some(tables), others })
    }

    /// What psql prints for some statements.
    fn ask(
        &mut self,
        statements: &str,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<String, String> {
        let all = format!("{statements}\\echo {DONE}\n");
        let written = match self.psql.stdin() {
            Some(stdin) => stdin.write_all(all.as_bytes()).and_then(|()| stdin.flush()),
            None => Err(io::Error::from(ErrorKind::BrokenPipe)),
        };
        let mut answer = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        let end = format!("{DONE}\n");
        while written.is_ok() {
            match self.psql.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted && !over() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    return Err("interrupted".into());
                }
                Err(error) => return Err(error.to_string()),
            }
            let before = answer.len().wrapping_sub(end.len() + 1);
            if answer.ends_with(end.as_bytes())
                && answer.get(before).is_none_or(|byte| *byte == b'\n')
            {
                answer.truncate(answer.len() - end.len());
                return String::from_utf8(answer)
                    .map_err(|_| "psql printed what is no UTF-8".into());
            }
        }
        // it ended before its time: how, says more
        self.psql.finish(over)?;
        Err(self.psql.blame("psql ended before it had answered"))
    }

    fn end(mut self, over: &dyn Fn() -> bool) -> std::result::Result<(), String> {
        // the dump saw this transaction only if it is still there
        self.ask("COMMIT;\n", over)?;
        self.psql.close_stdin();
        self.psql.finish(over)
    }
}

fn whole_dump(tail: &[u8]) -> std::result::Result<(), String> {
    whole(tail, "-- PostgreSQL database dump complete")
}

fn whole_globals(tail: &[u8]) -> std::result::Result<(), String> {
    whole(tail, "-- PostgreSQL database cluster dump complete")
}

/// The line is there, nothing of weight behind it, and the empty line that ends a dump.
fn whole(tail: &[u8], last: &str) -> std::result::Result<(), String> {
    let text = String::from_utf8_lossy(tail);
    let mut lines = text
        .lines()
        .rev()
        .skip_while(|line| line.is_empty() || *line == "--" || line.starts_with("\\unrestrict "));
    match lines.next() == Some(last) && text.ends_with("\n\n") {
        true => Ok(()),
        false => Err(format!("the dump is cut off: it does not end with {:?}", &last[3..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_whole_to_its_last_byte() {
        for unrestrict in ["", "\\unrestrict abc\n\n"] {
            let dump = format!("x\n--\n-- PostgreSQL database dump complete\n--\n\n{unrestrict}");
            assert_eq!(whole_dump(dump.as_bytes()), Ok(()));
            assert!(whole_dump(&dump.as_bytes()[..dump.len() - 1]).is_err());
            assert!(whole_globals(dump.as_bytes()).is_err());
            assert!(whole_dump(format!("{dump}SELECT 1;\n\n").as_bytes()).is_err());
        }
        assert!(whole_dump(b"").is_err());
    }

    #[test]
    fn names_of_databases_cannot_leave_their_quotes() {
        assert_eq!(named("a'b\\ host=x"), "dbname='a\\'b\\\\ host=x'");
    }
}
