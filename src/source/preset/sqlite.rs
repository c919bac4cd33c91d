//! SQLite: a database file as of one moment, while others write to it, in WAL mode too. Here by the backup API into a
//! temporary file; through another command by `sqlite3`, which does the same there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::caller::{Caller, words};
use super::fingerprint::{Count, Database, Fingerprint};
use super::step::CommandStep;
use super::{FINGERPRINT, RestoreStep, Stored, give_fingerprint};
use crate::backup::Sink;
use crate::config::profile::SqlitePreset;
use crate::repository::Result;
use crate::source::capture::metadata_of;
use crate::source::end::Ending;
use crate::source::temporary::PrivateDirectory;
use crate::source::usage;

/// Pages that are copied between two looks at whether the run is over.
const PAGES: i32 = 4096;
/// How long others may keep a database locked.
const BUSY: Duration = Duration::from_secs(30);

/// Everything that is counted in a table of `sqlite_schema`, a line each.
const SCHEMA: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
const OTHERS: &str = "SELECT type || 's', count(*) FROM sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL GROUP BY type";

/// Copies on the other side into a private file, counts in that, and prints one or the other.
const BACKUP_SCRIPT: &str = r#"umask 077; d=$(mktemp -d) || exit 1; trap 'rm -rf "$d"' EXIT; trap 'exit 1' HUP INT TERM
sqlite3 -readonly -cmd '.timeout 30000' "$1" ".backup '$d/copy'" && cat "$d/copy""#;
/// Copies into the file under its locks where sqlite3 is there; else puts a new file in its place.
const RESTORE_SCRIPT: &str = r#"umask 077; f=$1; d=$(mktemp -d "${f%/*}/.esker-XXXXXX") || exit 1; trap 'rm -rf "$d"' EXIT; trap 'exit 1' HUP INT TERM
cat >"$d/new" || exit 1
if [ -e "$f" ] && command -v sqlite3 >/dev/null 2>&1; then exec 3>&-; sqlite3 -bail -cmd '.timeout 30000' "$f" ".restore '$d/new'"; exit; fi
if [ -e "$f" ]; then echo "$f is there, and without sqlite3 it cannot be replaced while others may have it open: install sqlite3, or move it away" >&2; exit 1; fi
chmod "$2" "$d/new" && { [ "$(id -u)" != 0 ] || chown "$3" "$d/new"; } && rm -f "$f-wal" "$f-shm" "$f-journal" && mv "$d/new" "$f""#;

pub struct Sqlite {
    files: Vec<PathBuf>,
}

impl Sqlite {
    pub fn new(settings: &SqlitePreset) -> Result<Sqlite> {
        if settings.files.is_empty() {
            return Err(usage("a source of SQLite needs files"));
        }
        for file in &settings.files {
            let text = file.to_str().unwrap_or_default();
            if !file.is_absolute()
                || text.contains(['\'', '\n'])
                || text.split('/').any(|part| part == "..")
            {
                return Err(usage(format!(
                    "sqlite: {}: write an absolute path, in UTF-8 and without '",
                    file.display()
                )));
            }
        }
        Ok(Sqlite { files: settings.files.clone() })
    }

    pub fn check(&self, caller: &Caller) -> Result<()> {
        if !caller.through.is_empty() {
            return caller.tools(&[&["sqlite3"], &["mktemp"]]).map(drop);
        }
        for file in &self.files {
            if let Err(error) = std::fs::metadata(file) {
                return Err(usage(format!("{}: {error}", file.display())));
            }
        }
        Ok(())
    }

    pub fn capture(&self, caller: &Caller, sink: &mut dyn Sink) -> std::result::Result<(), String> {
        let mut fingerprint = Fingerprint { kind: "sqlite".into(), ..Fingerprint::default() };
        for file in &self.files {
            let path = stored_path(file);
            let captured = match caller.through.is_empty() {
                true => capture_here(caller, sink, file, path.as_bytes()),
                false => capture_there(caller, sink, file, path.as_bytes()),
            };
            let database = captured.map_err(|message| format!("{}: {message}", file.display()))?;
            fingerprint.databases.insert(path, database);
        }
        give_fingerprint(sink, &fingerprint)
    }

    pub fn fingerprint(
        &self,
        caller: &Caller,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Fingerprint, String> {
        let mut fingerprint = Fingerprint { kind: "sqlite".into(), ..Fingerprint::default() };
        for file in &self.files {
            let counted = match caller.through.is_empty() {
                true => open(file)
                    .and_then(|connection| count(&connection))
                    .map_err(|error| error.to_string()),
                false => count_there(caller, file, over),
            };
            let database = counted.map_err(|message| format!("{}: {message}", file.display()))?;
            fingerprint.databases.insert(stored_path(file), database);
        }
        Ok(fingerprint)
    }

    /// Each database goes to where it was.
    pub fn restore_steps(&self, caller: &Caller, stored: &Stored) -> Result<Vec<RestoreStep>> {
        let mut steps = Vec::new();
        for (path, metadata) in stored.iter().filter(|(path, _)| *path != FINGERPRINT.as_bytes()) {
            let Ok(name) = std::str::from_utf8(path) else {
                continue;
            };
            let file = format!("/{name}");
            let mode = format!("{:o}", metadata.mode & 0o777);
            let owner = format!("{}:{}", metadata.uid, metadata.gid);
            let command = words(&["sh", "-c", RESTORE_SCRIPT, "esker", &file, &mode, &owner]);
            let step = CommandStep::new(path, format!("restore {file}"), caller.reader(&command));
            steps.push(RestoreStep::Command(step));
        }
        Ok(steps)
    }
}

/// The path without the slash in front: the way back is the same whatever other files there are.
fn stored_path(file: &Path) -> String {
    let text = file.to_str().unwrap_or_default();
    let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

/// Opens a database without changing it. Where others write ahead, or left a journal, it can be read only by somebody
/// who may write.
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let with = |mode| -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(file, flags | mode)?;
        connection.busy_timeout(BUSY)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    match with(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            ) =>
        {
            with(OpenFlags::SQLITE_OPEN_READ_WRITE)
        }
        result => result,
    }
}

fn capture_here(
    caller: &Caller,
    sink: &mut dyn Sink,
    file: &Path,
    path: &[u8],
) -> std::result::Result<Database, String> {
    let metadata = std::fs::metadata(file).map_err(|error| error.to_string())?;
    let directory = PrivateDirectory::new(&caller.temporary).map_err(|error| error.to_string())?;
    let copy = directory.path().join("copy");
    let database = copy_of(caller, sink, file, &copy)?;
    let mut copied = File::open(&copy).map_err(|error| error.to_string())?;
    // it is gone with our hold on it, whatever happens from here on
    drop(directory);
    let mut watched = Whole { ending: DatabaseFile::default(), reader: &mut copied };
    let given = sink.file(path, metadata_of(&metadata), &mut watched);
    given.map_err(|error| error.to_string())?;
    watched.ending.end()?;
    Ok(database)
}

/// Copies within one transaction, in which the rows are counted as well.
fn copy_of(
    caller: &Caller,
    sink: &mut dyn Sink,
    file: &Path,
    copy: &Path,
) -> std::result::Result<Database, String> {
    let wrong = |error: rusqlite::Error| error.to_string();
    let source = open(file).map_err(wrong)?;
    source.execute_batch("BEGIN").map_err(wrong)?;
    let database = count(&source).map_err(wrong)?;
    let mut target = Connection::open(copy).map_err(wrong)?;
    // nobody needs the copy but us
    target.pragma_update(None, "synchronous", "OFF").map_err(wrong)?;
    {
        let backup = Backup::new(&source, &mut target).map_err(wrong)?;
        loop {
            if sink.interrupted() {
                return Err("interrupted".into());
            }
            caller.deadline.check("the copy")?;
            match backup.step(PAGES).map_err(wrong)? {
                StepResult::Done => break,
                StepResult::More => {}
                // a lock that is held for longer than the time-out is not waited for here for ever
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
    target.close().map_err(|(_, error)| error.to_string())?;
    source.execute_batch("COMMIT").map_err(wrong)?;
    Ok(database)
}

fn count(connection: &Connection) -> rusqlite::Result<Database> {
    let mut statement = connection.prepare(SCHEMA)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut tables = BTreeMap::new();
    for name in names {
        let name = name?;
        let query = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows: i64 = connection.query_row(&query, [], |row| row.get(0))?;
        tables.insert(name, Count::Exact(u64::try_from(rows).unwrap_or(0)));
    }
    let mut statement = connection.prepare(OTHERS)?;
    let others = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?
        .map(|row| row.map(|(what, count)| (what, u64::try_from(count).unwrap_or(0))))
        .collect::<rusqlite::Result<_>>()?;
    Ok(Database { tables: Some(tables), others })
}

fn capture_there(
    caller: &Caller,
    sink: &mut dyn Sink,
    file: &Path,
    path: &[u8],
) -> std::result::Result<Database, String> {
    let before = count_there(caller, file, &|| sink.interrupted())?;
    let name = file.to_str().unwrap_or_default();
    let command = words(&["sh", "-c", BACKUP_SCRIPT, "esker", name]);
    caller.capture(sink, path, &command, &mut DatabaseFile::default())?;
    let after = count_there(caller, file, &|| sink.interrupted())?;
    let of = |database| Fingerprint {
        kind: String::new(),
        databases: BTreeMap::from([(String::new(), database)]),
    };
    Ok(Fingerprint::around(of(before), of(after)).databases.remove("").unwrap_or_default())
}

fn count_there(
    caller: &Caller,
    file: &Path,
    over: &dyn Fn() -> bool,
) -> std::result::Result<Database, String> {
    let name = file.to_str().unwrap_or_default();
    let ask = |query: &str| {
        let sqlite = [
            "sqlite3",
            "-readonly",
            "-batch",
            "-noheader",
            "-list",
            "-cmd",
            ".timeout 30000",
            name,
            query,
        ];
        caller.output(&words(&sqlite), over)
    };
    let statements = ask(&SCHEMA.replacen(
        "SELECT name",
        "SELECT 'SELECT hex(''' || replace(name, '''', '''''') || '''), count(*) FROM \"' || replace(name, '\"', '\"\"') || '\";'",
        1,
    ))?;
    let numbers = |line: &str| {
        let (name, count) = line.split_once('|')?;
        Some((name.to_owned(), count.parse::<u64>().ok()?))
    };
    let wrong = |line: &str| format!("sqlite3 gave {line:?} where it counted rows");
    let mut tables = BTreeMap::new();
    for line in ask(&format!("BEGIN; {statements} COMMIT;"))?.lines() {
        let (name, rows) = numbers(line).ok_or_else(|| wrong(line))?;
        tables.insert(super::mariadb::text_of_hex(&name)?, Count::Exact(rows));
    }
    let printed = ask(OTHERS)?;
    let others = printed.lines().map(|line| numbers(line).ok_or_else(|| wrong(line)));
    Ok(Database { tables: Some(tables), others: others.collect::<std::result::Result<_, _>>()? })
}

struct Whole<'a> {
    ending: DatabaseFile,
    reader: &'a mut dyn io::Read,
}

impl io::Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.ending.see(&buffer[..read]);
        Ok(read)
    }
}

/// A database file says in its header how many pages of which size it has.
#[derive(Default)]
struct DatabaseFile {
    header: Vec<u8>,
    length: u64,
}

impl Ending for DatabaseFile {
    fn see(&mut self, bytes: &[u8]) {
        let missing = 100usize.saturating_sub(self.header.len());
        self.header.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        self.length += bytes.len() as u64;
    }

    fn end(&mut self) -> std::result::Result<(), String> {
        // an empty database is an empty file; https://www.sqlite.org/fileformat.html, the database header
        if self.length == 0 {
            return Ok(());
        }
        if self.header.len() < 100 || !self.header.starts_with(b"SQLite format 3\0") {
            return Err("the stream is no SQLite database".into());
        }
        let page = match u16::from_be_bytes([self.header[16], self.header[17]]) {
            1 => 65_536,
            size => u64::from(size),
        };
        let pages = u32::from_be_bytes([
            self.header[28],
            self.header[29],
            self.header[30],
            self.header[31],
        ]);
        match u64::from(pages) * page == self.length {
            true => Ok(()),
            false => Err(format!(
                "the database is cut off: it has {} of {} bytes",
                self.length,
                u64::from(pages) * page
            )),
        }
    }
}
