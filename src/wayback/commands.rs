//! Restore commands, as they travel in a snapshot: one JSON object a line.
//!
//! `format-spec/11-snapshots.md`, *Restore commands*.

use serde::{Deserialize, Serialize};

use crate::repository::{Error, Result};

/// Longest line, in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// How one thing of a snapshot is put back.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RestoreCommand {
    /// The source, as its profile names it.
    pub source: String,
    /// What of it: the components of its key in the tree, joined by `/`.
    pub path: String,
    /// The program and its arguments; it reads the stream. None: the path is written
    /// back to where it was.
    pub command: Vec<String>,
    /// Lower ones first; equal ones as they are listed.
    pub order: i64,
}

impl RestoreCommand {
    /// The line a manifest holds. Refuses what [`parse`](Self::parse) would.
    pub fn encode(&self) -> Result<String> {
        self.check()?;
        let line = serde_json::to_string(self);
        let line = line.map_err(|error| self.wrong(&error.to_string()))?;
        match line.len() <= MAX_LINE {
            true => Ok(line),
            false => Err(self.wrong("is longer than 64 KiB")),
        }
    }

    pub fn parse(line: &str) -> Result<RestoreCommand> {
        let wrong = |reason: &str| Error::damage(format!("a restore command {reason}"));
        if line.len() > MAX_LINE {
            return Err(wrong("is longer than 64 KiB"));
        }
        let parsed: RestoreCommand = serde_json::from_str(line).map_err(|error| {
            wrong(&format!("cannot be read: {error}; a newer esker may have written it"))
        })?;
        parsed.check()?;
        Ok(parsed)
    }

    /// The key in the tree of what is put back.
    pub fn key(&self) -> Vec<u8> {
        self.path.replace('/', "\0").into_bytes()
    }

    fn check(&self) -> Result<()> {
        let components: Vec<&str> = self.path.split('/').collect();
        let bad =
            |part: &&str| part.is_empty() || *part == "." || *part == ".." || part.contains('\0');
        if self.source.is_empty() || self.source.contains('\0') {
            return Err(self.wrong("names no source"));
        }
        if components.iter().any(bad) {
            return Err(self.wrong("names no path"));
        }
        let is_file_tree = components[0] == "files";
        if !is_file_tree && components[0] != self.source {
            return Err(self.wrong("names a path that is not of its source"));
        }
        if self.command.is_empty() && !is_file_tree {
            return Err(self.wrong("has no program, and its source has no place of its own"));
        }
        if self.command.first().is_some_and(String::is_empty)
            || self.command.iter().any(|word| word.contains('\0'))
        {
            return Err(self.wrong("has a word that is none"));
        }
        Ok(())
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::damage(format!("the restore command of {:?} {reason}", self.source))
    }
}

/// All of a snapshot, in the order in which they are to be run.
pub fn parse_all(lines: &[String]) -> Result<Vec<RestoreCommand>> {
    let mut commands: Vec<_> =
        lines.iter().map(|line| RestoreCommand::parse(line)).collect::<Result<_>>()?;
    commands.sort_by_key(|command| command.order);
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(source: &str, path: &str, words: &[&str], order: i64) -> RestoreCommand {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        RestoreCommand { source: source.to_owned(), path: path.to_owned(), command, order }
    }

    /// The bytes that the specification shows.
    #[test]
    fn a_line_is_what_the_specification_shows() {
        let globals = command("pg", "pg/globals.sql", &["psql", "-X", "postgres"], 1);
        let line = r#"{"source":"pg","path":"pg/globals.sql","command":["psql","-X","postgres"],"order":1}"#;
        assert_eq!(globals.encode().unwrap(), line);
        assert_eq!(RestoreCommand::parse(line).unwrap(), globals);
        assert_eq!(globals.key(), b"pg\0globals.sql");
    }

    #[test]
    fn commands_round_trip() {
        for one in [
            command("db", "db", &["sh", "-c", "psql \"$X\" | cat\n"], -5),
            command("vol", "vol", &["tar", "-x", "ü"], 0),
            command("/etc/app", "files/etc/app", &[], 0),
            command("/", "files", &["tar", "-x"], 7),
            // a source of several paths is called after the first, or by a name
            command("/etc/app", "files/srv/app", &[], 0),
            command("web", "files/srv/web", &[], 0),
        ] {
            assert_eq!(RestoreCommand::parse(&one.encode().unwrap()).unwrap(), one);
        }
    }

    #[test]
    fn what_names_nothing_is_neither_written_nor_read() {
        for one in [
            command("", "db", &["x"], 0),
            command("db", "", &["x"], 0),
            command("db", "db/../etc", &["x"], 0),
            command("db", "db//x", &["x"], 0),
            command("db", "other", &["x"], 0),
            command("db", "db", &[], 0),
            command("db", "db", &[""], 0),
            command("db", "db", &["x\0"], 0),
            command("db", "db", &[&"x".repeat(MAX_LINE)], 0),
        ] {
            assert!(one.encode().is_err(), "{one:?}");
            let line = serde_json::to_string(&one).unwrap();
            assert!(RestoreCommand::parse(&line).is_err(), "{line}");
        }
        for line in
            ["", "{}", "[]", r#"{"source":"a","path":"a","command":["b"],"order":0,"new":1}"#]
        {
            assert!(RestoreCommand::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn lower_orders_come_first_and_equal_ones_as_listed() {
        let lines: Vec<String> = [("b", 1), ("a", 1), ("c", -1)]
            .map(|(name, order)| command(name, name, &["x"], order).encode().unwrap())
            .into();
        let names: Vec<String> =
            parse_all(&lines).unwrap().into_iter().map(|command| command.source).collect();
        assert_eq!(names, ["c", "b", "a"]);
    }
}
