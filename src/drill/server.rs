//! Throw-away servers: made in scratch, reached by a socket there and by no network,
//! as a user who is not root. They end when the drill does, however that ends: a shell
//! waits for the end of its input, which comes when this program is gone, and then
//! stops what it started.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::scratch::{Scratch, tells_full};
use crate::config::profile::{MariadbPreset, PostgresqlPreset, RedisPreset};
use crate::output;
use crate::progress::Progress;
use crate::repository::{Error, Result};

/// How long a server may take until it answers, and until it has ended.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bytes of the end of a server's log that an error quotes.
const QUOTED: usize = 300;

/// Runs a server until the end of standard input. What it prints goes to the file
/// `log`, and its exit status to `ended`, both in the directory `$1`.
const KEEPER: &str = r#"d=$1; shift; trap : TERM
{ trap : TERM; "$@" </dev/null >>"$d/log" 2>&1; echo "$?" >"$d/ended"; } &
read -r _; kill -TERM 0; wait; wait"#;

/// What servers need of the machine.
pub struct Machine<'a> {
    pub scratch: &'a Scratch,
    /// Where programs are looked for: the value of PATH.
    pub path: &'a OsStr,
    pub progress: &'a dyn Progress,
}

/// A server that runs.
pub struct Server {
    keeper: Child,
    directory: PathBuf,
}

impl Server {
    /// Whether it had no room on the disk.
    pub fn was_full(&self) -> bool {
        log_tells_full(&self.directory)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // the end of its input is the word to stop
        drop(self.keeper.stdin.take());
        let started = Instant::now();
        while started.elapsed() < STOP_LIMIT {
            match self.keeper.try_wait() {
                Ok(None) => std::thread::sleep(LOOK_EVERY),
                _ => return,
            }
        }
        if let Some(group) = Pid::from_raw(self.keeper.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.keeper.wait();
    }
}

/// Why there is no server to load a dump into.
pub enum NoServer {
    /// The machine lacks a program: nothing was practised.
    Missing(String),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for NoServer {
    fn from(error: Error) -> NoServer {
        NoServer::Failed(error)
    }
}

type Started<T> = std::result::Result<(Server, T), NoServer>;

/// A PostgreSQL server, and how it is reached.
pub fn postgresql(machine: &Machine<'_>) -> Started<PostgresqlPreset> {
    let own = postgresql_directories();
    let initdb = machine.program(&["initdb"], &own)?;
    let beside: Vec<PathBuf> = initdb.parent().map(Path::to_owned).into_iter().collect();
    let postgres = machine.program_in(&["postgres"], &beside, &own)?;
    let place = machine.place("postgresql", "postgres")?;
    let data = place.directory.join("data");
    let user = "postgres";
    let mut make = place.command(machine, &initdb);
    make.args(["-A", "trust", "-U", user, "--no-sync", "--locale=C", "--encoding=UTF8", "-D"]);
    place.run(machine, make.arg(&data), "initdb")?;
    let mut sockets = OsString::from("unix_socket_directories=");
    sockets.push(&place.directory);
    let words = [
        postgres.into_os_string(),
        "-D".into(),
        data.into(),
        "-p".into(),
        "5432".into(),
        "-c".into(),
        sockets,
        "-c".into(),
        "listen_addresses=".into(),
        "-c".into(),
        "fsync=off".into(),
        "-c".into(),
        "full_page_writes=off".into(),
    ];
    let server = place.serve(machine, &words, &place.directory.join(".s.PGSQL.5432"))?;
    let preset = PostgresqlPreset {
        host: Some(place.directory.display().to_string()),
        port: Some(5432),
        user: Some(user.to_owned()),
        ..PostgresqlPreset::default()
    };
    place.until_it_answers(machine, "postgresql", || {
        let mut ask = place.client(machine, "psql");
        ask.args(["-X", "-q", "-w", "-U", user, "-p", "5432", "-d", "template1", "-h"]);
        ask.arg(&place.directory).args(["-c", "SELECT 1"]);
        ask
    })?;
    Ok((server, preset))
}

/// A MariaDB server. Who loads the dump is a user of its own: those that the dump
/// brings have passwords.
pub fn mariadb(machine: &Machine<'_>) -> Started<MariadbPreset> {
    let install = machine.program(&["mariadb-install-db", "mysql_install_db"], &[])?;
    let mariadbd = machine.program(&["mariadbd"], &[])?;
    let place = machine.place("mariadb", "mysql")?;
    let (data, socket) = (place.directory.join("data"), place.directory.join("socket"));
    let temporary = place.make("tmp")?;
    let with = |option: &str, value: &Path| {
        let mut word = OsString::from(option);
        word.push(value);
        word
    };
    let mut make = place.command(machine, &install);
    make.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    make.args(["--skip-name-resolve"]).arg(with("--tmpdir=", &temporary));
    place.run(machine, make.arg(with("--datadir=", &data)), "mariadb-install-db")?;
    let words = [
        mariadbd.into_os_string(),
        "--no-defaults".into(),
        with("--datadir=", &data),
        with("--tmpdir=", &temporary),
        with("--socket=", &socket),
        with("--pid-file=", &place.directory.join("pid")),
        "--skip-networking".into(),
        "--skip-name-resolve".into(),
        "--event-scheduler=OFF".into(),
        "--innodb-flush-log-at-trx-commit=0".into(),
        "--innodb-doublewrite=OFF".into(),
    ];
    let server = place.serve(machine, &words, &socket)?;
    let user = "esker_drill";
    place.until_it_answers(machine, "mariadb", || {
        let client = machine.program(&["mariadb", "mysql"], &[]);
        let mut ask = place.client(machine, client.unwrap_or_else(|_| "mariadb".into()));
        ask.args(["--no-defaults", "--user=root"]).arg(with("--socket=", &socket));
        ask.args(["-e", &format!(
            "CREATE USER IF NOT EXISTS {user}@localhost; GRANT ALL ON *.* TO {user}@localhost WITH GRANT OPTION; \
             GRANT PROXY ON ''@'%' TO {user}@localhost WITH GRANT OPTION"
        )]);
        ask
    })?;
    let preset = MariadbPreset {
        // a file for all users of this machine may name the host of another server
        host: Some("localhost".to_owned()),
        socket: Some(socket),
        user: Some(user.to_owned()),
        ..MariadbPreset::default()
    };
    Ok((server, preset))
}

/// A Redis server.
pub fn redis(machine: &Machine<'_>) -> Started<RedisPreset> {
    let program = machine.program(&["redis-server"], &[])?;
    let place = machine.place("redis", "redis")?;
    let socket = place.directory.join("socket");
    let words = [
        program.into_os_string(),
        "--port".into(),
        "0".into(),
        "--unixsocket".into(),
        socket.clone().into_os_string(),
        "--unixsocketperm".into(),
        "700".into(),
        "--dir".into(),
        place.directory.clone().into_os_string(),
        "--save".into(),
        "".into(),
        "--appendonly".into(),
        "no".into(),
    ];
    let server = place.serve(machine, &words, &socket)?;
    place.until_it_answers(machine, "redis", || {
        let mut ask = place.client(machine, "redis-cli");
        ask.arg("-s").arg(&socket).arg("PING");
        ask
    })?;
    Ok((server, RedisPreset { socket: Some(socket), ..RedisPreset::default() }))
}

/// Where distributions put what Debian does not put into PATH; the newest first.
fn postgresql_directories() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, directory)| directory).collect()
}

impl Machine<'_> {
    /// A program by one of its names, in PATH, where the system has what only root
    /// needs, or in `more`.
    fn program(&self, names: &[&str], more: &[PathBuf]) -> std::result::Result<PathBuf, NoServer> {
        self.program_in(names, &[], more)
    }

    fn program_in(
        &self,
        names: &[&str],
        first: &[PathBuf],
        more: &[PathBuf],
    ) -> std::result::Result<PathBuf, NoServer> {
        let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
        let directories = first.iter().cloned().chain(std::env::split_paths(self.path));
        let directories: Vec<PathBuf> =
            directories.chain(system).chain(more.iter().cloned()).collect();
        let found = names.iter().find_map(|name| {
            let programs = directories.iter().map(|directory| directory.join(name));
            programs.into_iter().find(|program| program.is_file())
        });
        let missing = || NoServer::Missing(format!("{}: no such program", names.join(" or ")));
        found.ok_or_else(missing)
    }

    /// A directory for a server, which belongs to whom the server runs as: where root
    /// drills, the server's usual user, or nobody.
    fn place(&self, name: &str, user: &str) -> Result<ServerPlace> {
        let directory = self.scratch.directory(name)?;
        let mut user_ids = None;
        if rustix::process::geteuid().is_root() {
            let known = |user| uzers::get_user_by_name(user);
            let found = known(user).or_else(|| known("nobody")).ok_or_else(|| {
                Error::failed(format!("{name}: there is no user {user} to run a server as"))
            })?;
            let ids = (found.uid(), found.primary_group_id());
            chown(&directory, Some(ids.0), Some(ids.1))
                .map_err(|error| self.scratch.cannot(&directory, &error))?;
            user_ids = Some(ids);
        }
        Ok(ServerPlace { directory, user_ids })
    }
}

/// The directory of a server, and whose it is.
struct ServerPlace {
    directory: PathBuf,
    /// User and group, if it is another than ours.
    user_ids: Option<(u32, u32)>,
}

impl ServerPlace {
    /// A program that runs as the server does, and knows nothing of our environment.
    fn command(&self, machine: &Machine<'_>, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.client(machine, program);
        if let Some((user, group)) = self.user_ids {
            command.uid(user).gid(group);
        }
        command
    }

    /// A program that runs as we do.
    fn client(&self, machine: &Machine<'_>, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", machine.path).env("LC_ALL", "C");
        command.env("HOME", &self.directory).current_dir(&self.directory);
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        let made = fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)))
            .and_then(|()| match self.user_ids {
                Some((user, group)) => chown(&path, Some(user), Some(group)),
                None => Ok(()),
            });
        made.map_err(|error| Error::failed(format!("{}: {error}", path.display())))?;
        Ok(path)
    }

    fn log(&self) -> io::Result<File> {
        let path = self.directory.join("log");
        let log = File::options().create(true).append(true).open(&path)?;
        if let Some((user, group)) = self.user_ids {
            chown(&path, Some(user), Some(group))?;
        }
        Ok(log)
    }

    /// Runs a program to its end.
    fn run(&self, machine: &Machine<'_>, command: &mut Command, name: &str) -> Result<()> {
        let failed = |what: &dyn std::fmt::Display| {
            let said = self.quote();
            self.explain(machine, format!("{name}: {what}{said}"))
        };
        let (out, err) = self
            .log()
            .and_then(|log| Ok((log.try_clone()?, log)))
            .map_err(|error| failed(&error))?;
        let child = command.stdout(out).stderr(err).spawn();
        let mut child = child.map_err(|error| failed(&error))?;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(&status)),
                Ok(None) if machine.progress.interrupted() => {
                    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
                        let _ = kill_process_group(group, Signal::KILL);
                    }
                    let _ = child.wait();
                    return Err(Error::interrupted());
                }
                Ok(None) => std::thread::sleep(LOOK_EVERY),
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    /// Starts a server, and waits for its socket.
    fn serve(&self, machine: &Machine<'_>, words: &[OsString], socket: &Path) -> Result<Server> {
        let failed = |error: io::Error| self.explain(machine, format!("a server: {error}"));
        self.log().map_err(failed)?;
        let mut command = self.command(machine, "/bin/sh");
        command.args(["-c", KEEPER, "sh"]).arg(&self.directory).args(words);
        let keeper = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let directory = self.directory.clone();
        let server = Server { keeper: keeper.spawn().map_err(failed)?, directory };
        self.wait(machine, &|| socket.exists())?;
        Ok(server)
    }

    /// Asks until there is an answer.
    fn until_it_answers(
        &self,
        machine: &Machine<'_>,
        name: &str,
        ask: impl Fn() -> Command,
    ) -> std::result::Result<(), NoServer> {
        let program = ask().get_program().to_owned();
        if !program.as_encoded_bytes().contains(&b'/') {
            machine.program(&[&program.to_string_lossy()], &[])?;
        }
        let answers = || {
            let mut ask = ask();
            let asked = ask.stdout(Stdio::null()).stderr(Stdio::null()).status();
            asked.is_ok_and(|status| status.success())
        };
        let waited = self.wait(machine, &answers);
        waited.map_err(|error| Error::new(error.kind, format!("{name}: {}", error.message)).into())
    }

    fn wait(&self, machine: &Machine<'_>, is_there: &dyn Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_there() {
            if machine.progress.interrupted() {
                return Err(Error::interrupted());
            }
            if self.directory.join("ended").exists() {
                let said = self.quote();
                return Err(self.explain(machine, format!("the server ended{said}")));
            }
            if started.elapsed() > START_LIMIT {
                let said = self.quote();
                return Err(self.explain(machine, format!("the server does not answer{said}")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// An error of a server; on a full disk that is the reason.
    fn explain(&self, machine: &Machine<'_>, message: String) -> Error {
        match tells_full(&message) || log_tells_full(&self.directory) {
            true => machine.scratch.full(),
            false => Error::failed(message),
        }
    }

    /// The end of what the server said.
    fn quote(&self) -> String {
        let log = fs::read(self.directory.join("log")).unwrap_or_default();
        let end = log.get(log.len().saturating_sub(QUOTED)..).unwrap_or_default();
        let text = String::from_utf8_lossy(end);
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.is_empty() {
            true => String::new(),
            false => format!("; it said: {}", output::sentence(&lines.join("; "))),
        }
    }
}

/// Whether the log of a server says that the disk was full.
fn log_tells_full(directory: &Path) -> bool {
    let log = fs::read(directory.join("log")).unwrap_or_default();
    tells_full(&String::from_utf8_lossy(&log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    /// What a machine lacks is told by name, and is no failure of the drill.
    #[test]
    fn a_program_that_is_not_there_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path()).unwrap();
        let machine =
            Machine { scratch: &scratch, path: parent.path().as_os_str(), progress: &Silent };
        match machine.program(&["no-such-server", "nor-this"], &[]) {
            Err(NoServer::Missing(what)) => {
                assert_eq!(what, "no-such-server or nor-this: no such program");
            }
            _ => panic!("there is no such program"),
        }
    }
}
