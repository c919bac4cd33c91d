//! What may stand where, as the JSON schema of the types in `profile` says it:
//! unknown keys, wrong types, values that are not allowed or out of range. All
//! mistakes are found, not the first only.

use std::sync::OnceLock;

use serde_json::{Map, Value as Json};

use super::document::{Node, Value};
use super::finding::{Finding, nearest, one_of};
use super::profile::File;
use super::value::{self, Period};

/// The schema of a configuration file, JSON Schema 2020-12.
pub fn schema() -> &'static Json {
    static SCHEMA: OnceLock<Json> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schemars::schema_for!(File).to_value();
        drop_null(&mut schema);
        schema
    })
}

/// TOML has no null: what may be left out is left out.
fn drop_null(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            if let Some(Json::Array(types)) = object.get_mut("type") {
                types.retain(|of| of != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Json::Array(any)) = object.get_mut("anyOf") {
                any.retain(|schema| schema.get("type").is_none_or(|of| of != "null"));
                if let [Json::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    object.extend(only);
                }
            }
            if object.get("default").is_some_and(Json::is_null) {
                object.remove("default");
            }
            object.values_mut().for_each(drop_null);
        }
        Json::Array(items) => items.iter_mut().for_each(drop_null),
        _ => {}
    }
}

/// A place of the schema.
#[derive(Clone, Copy)]
pub struct Shape(&'static Map<String, Json>);

/// What a shape is, seen from outside.
enum Kind {
    /// A place for a secret: text, or a table that is no set of settings.
    Secret,
    Any(Vec<Shape>),
    Table,
    List(Option<Shape>),
    Text,
    Integer,
    Number,
    Boolean,
}

impl Shape {
    /// of a whole file
    pub fn file() -> Shape {
        Shape::of(schema())
    }

    /// of one profile
    pub fn profile() -> Shape {
        Shape::of(&schema()["$defs"]["ProfileSettings"])
    }

    fn of(schema: &'static Json) -> Shape {
        static EMPTY: OnceLock<Map<String, Json>> = OnceLock::new();
        Shape(schema.as_object().unwrap_or_else(|| EMPTY.get_or_init(Map::new)))
    }

    /// The shape a reference leads to.
    fn target(self) -> Shape {
        match self.reference() {
            Some(name) => Shape::of(&schema()["$defs"][name]).target(),
            None => self,
        }
    }

    fn reference(self) -> Option<&'static str> {
        self.0.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
    }

    fn kind(self) -> Kind {
        if self.reference() == Some("Secret") {
            return Kind::Secret;
        }
        let shape = self.target();
        for choice in ["oneOf", "anyOf"] {
            if let Some(Json::Array(any)) = shape.0.get(choice) {
                return Kind::Any(any.iter().map(Shape::of).collect());
            }
        }
        match shape.0.get("type").and_then(Json::as_str) {
            Some("object") => Kind::Table,
            Some("array") => Kind::List(shape.0.get("items").map(Shape::of)),
            Some("integer") => Kind::Integer,
            Some("number") => Kind::Number,
            Some("boolean") => Kind::Boolean,
            _ => Kind::Text,
        }
    }

    fn properties(self) -> Option<&'static Map<String, Json>> {
        self.0.get("properties").and_then(Json::as_object)
    }

    /// The shape of what is called `name` in a table of this shape.
    pub fn member(self, name: &str) -> Option<Shape> {
        let shape = self.target();
        let own = shape.properties().and_then(|properties| properties.get(name));
        let any = || shape.0.get("additionalProperties").filter(|schema| schema.is_object());
        own.or_else(any).map(Shape::of)
    }

    /// Whether two tables of this shape are settings that complete each other, and
    /// no alternatives.
    pub fn is_settings(self) -> bool {
        matches!(self.kind(), Kind::Table)
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        self.properties().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    fn required(self) -> impl Iterator<Item = &'static str> {
        let names = self.0.get("required").and_then(Json::as_array);
        names.into_iter().flatten().filter_map(Json::as_str)
    }

    /// The texts that it allows, if it is a choice of texts.
    fn texts(self) -> Vec<&'static str> {
        let shape = self.target();
        let all = shape.0.get("enum").and_then(Json::as_array).into_iter().flatten();
        all.chain(shape.0.get("const")).filter_map(Json::as_str).collect()
    }

    /// What a value of this shape is called.
    fn noun(self) -> &'static str {
        match self.kind() {
            Kind::Secret => "text or a reference such as { file = \"…\" }",
            Kind::Any(shapes) if shapes.iter().all(|shape| shape.is_settings()) => "a table",
            Kind::Any(shapes) if shapes.iter().any(|s| matches!(s.kind(), Kind::List(_))) => {
                "text or a list"
            }
            Kind::Any(shapes) if shapes.iter().any(|shape| shape.is_settings()) => {
                "text or a table"
            }
            Kind::Table => "a table",
            Kind::List(_) => "a list",
            Kind::Any(_) | Kind::Text => "text",
            Kind::Integer => "a whole number",
            Kind::Number => "a number",
            Kind::Boolean => "true or false",
        }
    }
}

/// Calls `found` with each place of a secret in `node` and its path, such as
/// `profiles.web.sources[0].preset.password`.
pub fn each_secret(
    node: &mut Node,
    shape: Shape,
    path: &str,
    found: &mut dyn FnMut(&str, &mut Node),
) {
    match (shape.kind(), &mut node.value) {
        (Kind::Secret, _) => found(path, node),
        (Kind::Table, Value::Table(members)) => {
            for member in members {
                if let Some(shape) = shape.member(&member.name) {
                    each_secret(&mut member.node, shape, &join(path, &member.name), found);
                }
            }
        }
        (Kind::List(Some(shape)), Value::List(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                each_secret(item, shape, &format!("{path}[{index}]"), found);
            }
        }
        (Kind::Any(shapes), Value::Table(_)) => {
            if let Some(shape) = chosen(&shapes, node) {
                each_secret(node, shape, path, found);
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    let name = match name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
        true => name.to_owned(),
        false => format!("{name:?}"),
    };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// Of tables told apart by their `kind`, the one that `node` says it is.
fn chosen(shapes: &[Shape], node: &Node) -> Option<Shape> {
    let kind = node.get("kind")?.text()?;
    shapes.iter().copied().find(|shape| tag(*shape) == Some(kind))
}

fn tag(shape: Shape) -> Option<&'static str> {
    shape.target().properties()?.get("kind")?.get("const")?.as_str()
}

/// Everything in `node` that is not of the shape. What is missing is only told
/// where `complete`: elsewhere a profile that is extended may have it.
pub fn check(node: &Node, shape: Shape, path: &str, complete: bool) -> Vec<Finding> {
    let mut checker = Checker { findings: Vec::new() };
    checker.value(node, shape, path, complete);
    checker.findings
}

struct Checker {
    findings: Vec<Finding>,
}

impl Checker {
    fn error(&mut self, node: &Node, sentence: String) {
        self.findings.push(Finding::error(&node.at, sentence));
    }

    fn value(&mut self, node: &Node, shape: Shape, path: &str, complete: bool) {
        match (shape.kind(), &node.value) {
            (Kind::Secret, Value::Text(_)) => {}
            (Kind::Secret, Value::Table(_)) => {
                self.value(node, Shape::of(&schema()["$defs"]["Reference"]), path, complete);
            }
            (Kind::Any(shapes), value) => self.choice(node, value, shape, &shapes, path, complete),
            (Kind::Table, Value::Table(_)) => self.table(node, shape.target(), path, complete),
            (Kind::List(items), Value::List(list)) => {
                for (index, item) in list.iter().enumerate() {
                    if let Some(shape) = items {
                        self.value(item, shape, &format!("{path}[{index}]"), true);
                    }
                }
            }
            (Kind::Text, Value::Text(text)) => self.text(node, text, shape.target(), path),
            (Kind::Boolean, Value::Boolean(_)) => {}
            (Kind::Integer, Value::Integer(number)) => {
                self.range(node, *number as f64, &number.to_string(), shape.target(), path);
            }
            (Kind::Number, Value::Integer(number)) => {
                self.range(node, *number as f64, &number.to_string(), shape.target(), path);
            }
            (Kind::Number, Value::Number(number)) => {
                self.range(node, *number, &number.to_string(), shape.target(), path);
            }
            (_, value) => self.wrong_type(node, value, shape, path),
        }
    }

    fn wrong_type(&mut self, node: &Node, value: &Value, shape: Shape, path: &str) {
        let is = match value {
            Value::Table(_) => "a table",
            Value::List(_) => "a list",
            Value::Text(_) => "text",
            Value::Integer(_) => "a whole number",
            Value::Number(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Time => "a time without quotes",
        };
        self.error(node, format!("`{path}` is {is}, and must be {}", shape.noun()));
    }

    fn table(&mut self, node: &Node, shape: Shape, path: &str, complete: bool) {
        for member in node.members() {
            let below = join(path, &member.name);
            match shape.member(&member.name) {
                // what a profile lacks, one that it extends may have
                Some(found) => {
                    let complete = complete && below != "profiles";
                    self.value(&member.node, found, &below, complete);
                }
                None => {
                    let sentence = unknown_key(&member.name, shape.names().collect(), path);
                    self.findings.push(Finding::error(&member.at, sentence));
                }
            }
        }
        for name in shape.required().filter(|name| complete && node.get(name).is_none()) {
            self.error(node, format!("`{name}` is missing in `{path}`"));
        }
    }

    /// One of several shapes.
    fn choice(
        &mut self,
        node: &Node,
        value: &Value,
        whole: Shape,
        shapes: &[Shape],
        path: &str,
        complete: bool,
    ) {
        match value {
            Value::Text(text) => {
                let allowed: Vec<&str> = shapes.iter().flat_map(|shape| shape.texts()).collect();
                let free =
                    shapes.iter().any(|s| matches!(s.kind(), Kind::Text) && s.texts().is_empty());
                match free {
                    true => {}
                    false if allowed.is_empty() => self.wrong_type(node, value, whole, path),
                    false => self.allowed(node, text, &allowed, path),
                }
            }
            Value::Table(_) => self.alternative(node, whole, shapes, path, complete),
            Value::List(_) => match shapes.iter().find(|s| matches!(s.kind(), Kind::List(_))) {
                Some(shape) => self.value(node, *shape, path, complete),
                None => self.wrong_type(node, value, whole, path),
            },
            _ => self.wrong_type(node, value, whole, path),
        }
    }

    /// A table that is one of several: told apart by `kind`, or by its only key.
    fn alternative(
        &mut self,
        node: &Node,
        whole: Shape,
        shapes: &[Shape],
        path: &str,
        complete: bool,
    ) {
        let tables: Vec<Shape> =
            shapes.iter().map(|s| s.target()).filter(|shape| shape.is_settings()).collect();
        let tags: Vec<&str> = tables.iter().filter_map(|shape| tag(*shape)).collect();
        if tables.is_empty() {
            return self.wrong_type(node, &node.value, whole, path);
        }
        if !tags.is_empty() {
            return match (chosen(&tables, node), node.get("kind")) {
                (Some(shape), _) => self.table(node, shape, path, complete),
                (None, Some(kind)) => match kind.text() {
                    Some(text) => self.allowed(kind, text, &tags, &join(path, "kind")),
                    None => self.wrong_type(kind, &kind.value, Shape::of(&Json::Null), path),
                },
                (None, None) => {
                    let kinds = one_of(tags);
                    self.error(node, format!("`kind` is missing in `{path}`: it is {kinds}"));
                }
            };
        }
        let names: Vec<&str> = tables.iter().flat_map(|shape| shape.names()).collect();
        match node.members() {
            [only] => match tables.iter().find_map(|shape| shape.member(&only.name)) {
                Some(shape) => self.value(&only.node, shape, &join(path, &only.name), true),
                None => {
                    let sentence = unknown_key(&only.name, names, path);
                    self.findings.push(Finding::error(&only.at, sentence));
                }
            },
            members => {
                let unknown =
                    members.iter().filter(|member| !names.contains(&member.name.as_str()));
                for member in unknown {
                    let sentence = unknown_key(&member.name, names.clone(), path);
                    self.findings.push(Finding::error(&member.at, sentence));
                }
                self.error(node, format!("`{path}` must have one key: {}", one_of(names)));
            }
        }
    }

    fn allowed(&mut self, node: &Node, text: &str, allowed: &[&str], path: &str) {
        if allowed.contains(&text) {
            return;
        }
        let meant = nearest(text, allowed.iter().copied());
        let meant = meant.map(|word| format!(": did you mean {word:?}?")).unwrap_or_default();
        let all = one_of(allowed.iter().copied());
        self.error(node, format!("`{path}` is {text:?}, and must be {all}{meant}"));
    }

    fn text(&mut self, node: &Node, text: &str, shape: Shape, path: &str) {
        let allowed = shape.texts();
        if !allowed.is_empty() {
            return self.allowed(node, text, &allowed, path);
        }
        let wrong = match shape.0.get("format").and_then(Json::as_str) {
            Some("period") => Period::parse(text).err(),
            Some("size") => value::size(text).err(),
            Some("span") => value::span(text).err(),
            Some("zone") => value::zone(text).err(),
            Some("share") => value::share(text).err(),
            Some("share-or-size") => {
                value::share(text).err().filter(|_| value::size(text).is_err())
            }
            _ => None,
        };
        if let Some(reason) = wrong {
            self.error(node, format!("`{path}`: {reason}"));
        }
    }

    fn range(&mut self, node: &Node, number: f64, text: &str, shape: Shape, path: &str) {
        let bound = |name: &str| shape.0.get(name).and_then(Json::as_f64);
        let of_type = match shape.0.get("format").and_then(Json::as_str) {
            Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
            Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
            _ => (None, None),
        };
        let least = bound("minimum").or(of_type.0);
        let most = bound("maximum").or(of_type.1);
        let inside = least.is_none_or(|least| number >= least)
            && most.is_none_or(|most| number <= most)
            && number.is_finite();
        if inside {
            return;
        }
        let range = match (least, most) {
            (Some(least), Some(most)) => format!("from {least} to {most}"),
            (Some(least), None) => format!("{least} or more"),
            (None, Some(most)) => format!("{most} or less"),
            (None, None) => "a number".to_owned(),
        };
        self.error(node, format!("`{path}` is {text}, and must be {range}"));
    }
}

fn unknown_key(name: &str, known: Vec<&str>, path: &str) -> String {
    let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("unknown key `{name}`{place}: did you mean `{near}`?"),
        None => format!("unknown key `{name}`{place}: its keys are {}", known.join(", ")),
    }
}
