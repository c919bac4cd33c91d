//! Redis: a dump as a replica gets it. Back it goes the same way: a server of our own loads the dump, and the real one
//! becomes its replica for a moment.

use std::collections::BTreeMap;

use super::caller::{Caller, words};
use super::fingerprint::{Count, Database, Fingerprint};
use super::redis_end::RdbEnd;
use super::step::CommandStep;
use super::{RestoreStep, Stored, give_fingerprint};
use crate::backup::Sink;
use crate::config::profile::RedisPreset;
use crate::repository::Result;

const DUMP: &str = "dump.rdb";

/// The real server is not touched before our own has loaded the dump. For the time of the transfer it gets a password
/// by which it, and nobody else, may ask for the data; what it had before it gets back.
const RESTORE_SCRIPT: &str = r#"set -u; umask 077
fail() { printf '%s\n' "$*" >&2; exit 1; }
command -v redis-server >/dev/null 2>&1 || fail 'redis-server: no such program: it is needed to load a dump'
d=$(mktemp -d) || exit 1; own=; touched=
s="$d/socket"
info() { "$@" INFO replication | tr -d '\r'; }
tidy() {
  if [ -n "$touched" ]; then
    "$@" REPLICAOF NO ONE >/dev/null
    { printf 'CONFIG SET masterauth "%s"\n' "$old"; printf 'CONFIG SET masteruser "%s"\n' "$olduser"; } | "$@" >/dev/null
  fi
  if [ -n "$own" ]; then kill "$own" 2>/dev/null; wait "$own" 2>/dev/null; fi
  rm -rf "$d"
}
trap 'tidy "$@"' EXIT; trap 'exit 1' HUP INT TERM
cat >"$d/dump.rdb" || exit 1
role=$(info "$@" | sed -n 's/^role://p')
[ "$role" = master ] || fail "the server is ${role:-not to be asked}: a dump is restored to a master"
old=$(printf 'CONFIG GET masterauth\n' | "$@" | sed -n 2p)
olduser=$(printf 'CONFIG GET masteruser\n' | "$@" | sed -n 2p)
case $old$olduser in *[\"\\]*) fail 'masterauth has a quote or a backslash in it: restore the dump by hand';; esac
secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
try=0
while :; do
  port=$((20000 + $(od -An -N2 -tu2 /dev/urandom | tr -d ' ') % 10000))
  printf 'port %s\nbind 127.0.0.1\nunixsocket %s\nunixsocketperm 700\ndir %s\ndbfilename dump.rdb\nsave ""\nappendonly no\nrequirepass %s\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\nlogfile %s\n' "$port" "$s" "$d" "$secret" "$d/log" |
    redis-server - >/dev/null 2>&1 & own=$!
  while kill -0 "$own" 2>/dev/null; do
    loaded=$(REDISCLI_AUTH=$secret redis-cli -s "$s" INFO persistence 2>/dev/null | tr -d '\r' | sed -n 's/^loading://p')
    [ "$loaded" = 0 ] && break 2
    sleep 0.1
  done
  own=; try=$((try + 1))
  [ "$try" -lt 5 ] || fail "redis-server does not load the dump: $(tail -n 2 "$d/log" 2>/dev/null)"
done
touched=yes
answer=$({ printf 'CONFIG SET masteruser ""\n'; printf 'CONFIG SET masterauth %s\n' "$secret"; printf 'REPLICAOF 127.0.0.1 %s\n' "$port"; } | "$@" 2>&1 | tr -d '\r')
[ "$(printf '%s' "$answer" | grep -c '^OK')" = 3 ] || fail "the server does not take the dump: $(printf '%s' "$answer" | grep -v '^OK' | head -n 1)"
until info "$@" | grep -q '^master_link_status:up'; do
  kill -0 "$own" 2>/dev/null || fail 'the server with the dump ended'
  info "$@" | grep -q '^role:slave' || fail 'the server is no replica any more'
  sleep 0.1
done
"$@" REPLICAOF NO ONE >/dev/null"#;

pub struct Redis {
    client: Vec<String>,
}

impl Redis {
    pub fn new(settings: &RedisPreset) -> Redis {
        let mut client = words(&["redis-cli"]);
        client.extend(settings.host.iter().flat_map(|host| ["-h".to_owned(), host.clone()]));
        client.extend(settings.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        client.extend(
            settings.socket.iter().flat_map(|s| ["-s".to_owned(), s.display().to_string()]),
        );
        client.extend(settings.user.iter().flat_map(|user| ["--user".to_owned(), user.clone()]));
        Redis { client }
    }

    pub fn check(&self, caller: &Caller) -> Result<()> {
        caller.tools(&[&["redis-cli"]]).map(drop)
    }

    fn command(&self, more: &[&str]) -> Vec<String> {
        [self.client.clone(), words(more)].concat()
    }

    pub fn capture(&self, caller: &Caller, sink: &mut dyn Sink) -> std::result::Result<(), String> {
        // what changes while the server dumps becomes a range
        let before = self.fingerprint(caller, &|| sink.interrupted())?;
        caller.capture(
            sink,
            DUMP.as_bytes(),
            &self.command(&["--rdb", "-"]),
            &mut RdbEnd::default(),
        )?;
        let after = self.fingerprint(caller, &|| sink.interrupted())?;
        give_fingerprint(sink, &Fingerprint::around(before, after))
    }

    pub fn fingerprint(
        &self,
        caller: &Caller,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Fingerprint, String> {
        let printed = caller.output(&self.command(&["INFO", "keyspace"]), over)?;
        if !printed.starts_with("# Keyspace") {
            // it may well end with 0
            let said = printed.lines().next().unwrap_or("nothing");
            return Err(format!("redis-cli: {}", crate::output::sentence(said)));
        }
        let mut keys = BTreeMap::new();
        for line in printed.lines().filter(|line| line.starts_with("db")) {
            let count = line.split_once(":keys=").and_then(|(name, rest)| {
                let digits = rest.split(',').next()?;
                Some((name.to_owned(), Count::Exact(digits.trim().parse().ok()?)))
            });
            let (name, count) =
                count.ok_or_else(|| format!("redis-cli gave {line:?} where it counted keys"))?;
            keys.insert(name, count);
        }
        let database = Database { tables: Some(keys), ..Database::default() };
        Ok(Fingerprint {
            kind: "redis".into(),
            databases: BTreeMap::from([("keys".into(), database)]),
        })
    }

    pub fn restore_steps(&self, caller: &Caller, stored: &Stored) -> Result<Vec<RestoreStep>> {
        let command = [words(&["sh", "-c", RESTORE_SCRIPT, "esker"]), self.client.clone()].concat();
        let step =
            CommandStep::new(DUMP.as_bytes(), "restore Redis".into(), caller.reader(&command));
        let there = stored.contains_key(DUMP.as_bytes());
        Ok(there.then_some(RestoreStep::Command(step)).into_iter().collect())
    }
}
