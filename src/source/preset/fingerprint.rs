//! A few numbers that a restored server must have again: tables and rows, keys, documents.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Bytes of a stored fingerprint.
pub const MAX_FINGERPRINT: usize = 64 << 20;

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// The preset: `postgresql`.
    pub kind: String,
    /// By name: of a database, a file, or an index.
    pub databases: BTreeMap<String, Database>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Rows of each table; keys, documents. None where the dump leaves out parts of a database.
    pub tables: Option<BTreeMap<String, Count>>,
    /// How many there are of other things: views, routines, triggers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, u64>,
}

/// A number that was counted.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Count {
    /// At the moment of the dump.
    Exact(u64),
    /// Least and most of a time around that moment, in which it changed.
    Around(u64, u64),
}

impl Count {
    /// Of a number counted before and after.
    pub fn around(before: u64, after: u64) -> Count {
        match before == after {
            true => Count::Exact(before),
            false => Count::Around(before.min(after), before.max(after)),
        }
    }

    fn range(self) -> (u64, u64) {
        match self {
            Count::Exact(count) => (count, count),
            Count::Around(least, most) => (least, most),
        }
    }

    /// Whether both may be of one moment.
    fn agrees(self, other: Count) -> bool {
        let ((least, most), (other_least, other_most)) = (self.range(), other.range());
        least <= other_most && other_least <= most
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Count::Exact(count) => count.fmt(f),
            Count::Around(least, most) => write!(f, "{least} to {most}"),
        }
    }
}

impl Fingerprint {
    pub fn parse(bytes: &[u8]) -> Result<Fingerprint, String> {
        if bytes.len() > MAX_FINGERPRINT {
            return Err(format!("a fingerprint of {} bytes is none", bytes.len()));
        }
        serde_json::from_slice(bytes).map_err(|error| format!("this is no fingerprint: {error}"))
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Counts of before and after the dump, as one.
    pub fn around(before: Fingerprint, mut after: Fingerprint) -> Fingerprint {
        for (name, earlier) in before.databases {
            let later = after.databases.entry(name).or_default();
            for (table, before) in earlier.tables.into_iter().flatten() {
                let now =
                    later.tables.get_or_insert_default().entry(table).or_insert(Count::Exact(0));
                *now = Count::around(before.range().0, now.range().0);
            }
        }
        after
    }
}

/// How what was found differs from what was stored: a sentence for each difference, none if there is none. What was not
/// there when the snapshot was made does not count.
pub fn compare_fingerprint(stored: &Fingerprint, found: &Fingerprint) -> Vec<String> {
    if stored.kind != found.kind {
        return vec![format!("the fingerprint is of {}, and not of {}", stored.kind, found.kind)];
    }
    let mut differences = Vec::new();
    for (name, database) in &stored.databases {
        match found.databases.get(name) {
            None => differences.push(format!("{name}: it is not there")),
            Some(other) => compare(name, database, other, &mut differences),
        }
    }
    differences
}

fn compare(name: &str, stored: &Database, found: &Database, differences: &mut Vec<String>) {
    if let (Some(stored), Some(found)) = (&stored.tables, &found.tables) {
        let tables: BTreeSet<&String> = stored.keys().chain(found.keys()).collect();
        for table in tables {
            match (stored.get(table), found.get(table)) {
                (Some(one), Some(other)) if one.agrees(*other) => {}
                (Some(one), Some(other)) => {
                    differences.push(format!("{name}: {table} has {other} and had {one}"));
                }
                // it may have come and gone while it was counted
                (Some(one), None) if one.range().0 > 0 || matches!(one, Count::Exact(_)) => {
                    differences.push(format!("{name}: {table} is not there"));
                }
                (None, Some(_)) => differences.push(format!("{name}: {table} was not there")),
                _ => {}
            }
        }
    }
    for (what, count) in &stored.others {
        let now = found.others.get(what).copied().unwrap_or(0);
        if now != *count {
            differences.push(format!("{name}: {now} {what}, and there were {count}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tables: &[(&str, Count)], views: u64) -> Fingerprint {
        let tables = tables.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let others = BTreeMap::from([("views".to_owned(), views)]);
        let database = Database { tables: Some(tables), others };
        Fingerprint { kind: "x".into(), databases: BTreeMap::from([("db".into(), database)]) }
    }

    #[test]
    fn differences_are_told_and_ranges_are_fair() {
        use Count::*;
        let stored = of(&[("a", Exact(3)), ("b", Around(1, 5))], 2);
        let parsed = Fingerprint::parse(&stored.to_bytes()).unwrap();
        assert_eq!(parsed, stored);
        assert_eq!(
            compare_fingerprint(&stored, &of(&[("a", Exact(3)), ("b", Exact(4))], 2)),
            [""; 0]
        );
        let found = of(&[("a", Exact(2)), ("c", Exact(1))], 1);
        assert_eq!(
            compare_fingerprint(&stored, &found),
            [
                "db: a has 2 and had 3",
                "db: b is not there",
                "db: c was not there",
                "db: 1 views, and there were 2"
            ]
        );
        assert_eq!(
            compare_fingerprint(&stored, &Fingerprint { kind: "x".into(), ..found.clone() }).len(),
            4
        );
        assert_eq!(
            compare_fingerprint(&stored, &Fingerprint { kind: "y".into(), ..found }).len(),
            1
        );
        let none = Fingerprint { kind: "x".into(), ..Fingerprint::default() };
        assert_eq!(compare_fingerprint(&stored, &none), ["db: it is not there"]);
        assert!(Fingerprint::parse(b"{}").is_err() && Fingerprint::parse(b"").is_err());
    }
}
