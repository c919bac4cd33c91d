//! A configuration file as a tree of values that remember their lines. What may
//! stand where is `shape`'s to know.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::finding::{At, Finding};

/// A value and where it is written.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: At,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    /// In the order of the file.
    Table(Vec<Member>),
    List(Vec<Node>),
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    /// A date or time; no setting is one.
    Time,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    pub at: At,
    pub node: Node,
}

impl Node {
    /// Reads TOML; all mistakes of its syntax, if it has any.
    pub fn parse(file: &Arc<Path>, text: &str) -> Result<Node, Vec<Finding>> {
        let lines = Lines::of(file, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(lines.table(table.get_ref(), lines.at(0..0)));
        }
        let finding = |error: toml::de::Error| {
            let at = lines.at(error.span().unwrap_or(0..0));
            Finding::error(&at, error.message().replace('\n', " "))
        };
        Err(errors.into_iter().map(finding).collect())
    }

    /// The same wherever it is written: of tables, in whatever order.
    pub fn says_the_same(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (Value::Table(own), Value::Table(others)) => {
                let same = |member: &Member| {
                    other.get(&member.name).is_some_and(|node| member.node.says_the_same(node))
                };
                own.len() == others.len() && own.iter().all(same)
            }
            (Value::List(own), Value::List(others)) => {
                own.len() == others.len()
                    && own.iter().zip(others).all(|(own, other)| own.says_the_same(other))
            }
            (Value::Text(own), Value::Text(other)) => own == other,
            (Value::Integer(own), Value::Integer(other)) => own == other,
            (Value::Number(own), Value::Number(other)) => own == other,
            (Value::Boolean(own), Value::Boolean(other)) => own == other,
            _ => false,
        }
    }

    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Table(members) => members,
            _ => &[],
        }
    }

    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members().iter().find(|member| member.name == name)
    }

    pub fn get(&self, name: &str) -> Option<&Node> {
        self.member(name).map(|member| &member.node)
    }

    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where what lies at the end of `path` is written: keys, and numbers of items
    /// from 0. The last part of the path that is there, if not all of it is.
    pub fn place(&self, path: &[&str]) -> &At {
        let mut at = &self.at;
        let mut node = self;
        for step in path {
            let next = match &node.value {
                Value::Table(_) => node.member(step).map(|member| (&member.at, &member.node)),
                Value::List(items) => {
                    let item = step.parse().ok().and_then(|index: usize| items.get(index));
                    item.map(|item| (&item.at, item))
                }
                _ => None,
            };
            let Some(found) = next else { break };
            (at, node) = found;
        }
        at
    }

    pub fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::Table(members) => {
                let pair = |member: &Member| (member.name.clone(), member.node.to_toml());
                toml::Value::Table(members.iter().map(pair).collect())
            }
            Value::List(items) => toml::Value::Array(items.iter().map(Node::to_toml).collect()),
            Value::Text(text) => toml::Value::String(text.clone()),
            Value::Integer(number) => toml::Value::Integer(*number),
            Value::Number(number) => toml::Value::Float(*number),
            Value::Boolean(value) => toml::Value::Boolean(*value),
            Value::Time => toml::Value::String(String::new()),
        }
    }
}

/// Where lines begin.
struct Lines<'a> {
    file: &'a Arc<Path>,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(file: &'a Arc<Path>, text: &str) -> Lines<'a> {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines { file, starts: std::iter::once(0).chain(after).collect() }
    }

    fn at(&self, span: Range<usize>) -> At {
        let line = self.starts.partition_point(|&start| start <= span.start);
        At { file: Arc::clone(self.file), line }
    }

    fn table(&self, table: &DeTable<'_>, at: At) -> Node {
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let member = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let at = self.at(key.span());
            let node = self.node(value, &at);
            Member { name: String::from(key.get_ref() as &str), at, node }
        };
        Node { at, value: Value::Table(keys.into_iter().map(member).collect()) }
    }

    fn node(&self, value: &Spanned<DeValue<'_>>, key: &At) -> Node {
        let at = self.at(value.span());
        let value = match value.get_ref() {
            // the line of its heading, not of what made it necessary
            DeValue::Table(table) => return self.table(table, at.max(key.clone())),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item, &at)).collect())
            }
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    // beyond all ranges
                    Err(_) => Value::Number(number.as_str().parse().unwrap_or(f64::INFINITY)),
                }
            }
            DeValue::Float(number) => Value::Number(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(_) => Value::Time,
        };
        Node { at, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Node, Vec<Finding>> {
        Node::parse(&Arc::from(Path::new("a.toml")), text)
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "\
a = 1
[b]
c = [
  'x',
  { d = 2 },
]
[[b.e]]
f = 1
[[b.e]]
f = true
";
        let node = parse(text).unwrap();
        for (path, line) in [
            (&["a"][..], 1),
            (&["b"], 2),
            (&["b", "c"], 3),
            (&["b", "c", "0"], 4),
            (&["b", "c", "1", "d"], 5),
            (&["b", "e", "0"], 7),
            (&["b", "e", "0", "f"], 8),
            (&["b", "e", "1"], 9),
            (&["b", "e", "1", "f"], 10),
            (&["b", "e", "1", "absent"], 9),
        ] {
            assert_eq!(node.place(path).line, line, "{path:?}");
        }
    }

    #[test]
    fn mistakes_of_syntax_are_all_named() {
        let findings = parse("a = \nb = 1\nc = = 2\n").unwrap_err();
        let lines: Vec<usize> = findings.iter().map(|finding| finding.at.line).collect();
        assert!(lines.contains(&1) && lines.contains(&3), "{findings:?}");
        assert!(parse("a = 1\na = 2\n").is_err());
    }
}
