//! The vectors of `format-spec/vectors/`: reads every file and checks that the
//! parsers give exactly the fields, or the rule, that it says.
//!
//! `ESKER_WRITE_VECTORS=1 cargo test --test vectors` makes the files anew from
//! the cases here; what is new in them but nonces and encapsulated keys is a
//! change of the format.

mod cases_notes;
mod cases_objects;
mod cases_packs;
mod cases_primitives;
mod cases_trees;
mod reading;
mod repository;
mod run_objects;
mod run_packs;
mod run_primitives;
mod values;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// One scenario: what goes in, and the rule it breaks, if any.
pub struct Case {
    pub kind: &'static str,
    pub name: String,
    pub inputs: Value,
    pub keys: Value,
    pub rule: Option<&'static str>,
}

pub fn ok(kind: &'static str, name: &str, inputs: Value, keys: Value) -> Case {
    Case { kind, name: name.to_owned(), inputs, keys, rule: None }
}

pub fn reject(
    kind: &'static str,
    rule: &'static str,
    name: &str,
    inputs: Value,
    keys: Value,
) -> Case {
    Case { kind, name: name.to_owned(), inputs, keys, rule: Some(rule) }
}

/// Decoded fields, or the name of the rule broken.
pub type Outcome = Result<Value, String>;

fn run(kind: &str, inputs: &Value, keys: &Value) -> Outcome {
    run_primitives::run(kind, inputs, keys)
        .or_else(|| run_objects::run(kind, inputs, keys))
        .or_else(|| run_packs::run(kind, inputs, keys))
        .unwrap_or_else(|| panic!("unknown kind of vector: {kind}"))
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("format-spec/vectors")
}

type File = (&'static str, fn() -> Vec<Case>);

const FILES: [File; 14] = [
    ("cbor", cases_primitives::cbor),
    ("conventions", cases_primitives::conventions),
    ("keys", cases_primitives::keys),
    ("chunker", cases_primitives::chunker),
    ("object", cases_objects::object),
    ("config", cases_objects::config),
    ("update", cases_objects::update),
    ("slot", cases_objects::slot),
    ("pack", cases_packs::pack),
    ("segment", cases_packs::segment),
    ("entry", cases_trees::entry),
    ("page", cases_trees::page),
    ("manifest", cases_notes::manifest),
    ("notes", cases_notes::notes),
];

fn written(case: &Case) -> Value {
    let outcome = run(case.kind, &case.inputs, &case.keys);
    let mut vector = json!({
        "name": case.name,
        "kind": case.kind,
        "inputs": case.inputs,
        "keys": case.keys,
    });
    match (&outcome, case.rule) {
        (Ok(fields), None) => {
            vector["expect"] = "ok".into();
            vector["fields"] = fields.clone();
        }
        (Err(rule), Some(expected)) if rule == expected => {
            vector["expect"] = "reject".into();
            vector["rule"] = rule.as_str().into();
        }
        _ => panic!("{}: {}: {outcome:?}, not {:?}", case.kind, case.name, case.rule),
    }
    vector
}

fn write_all() {
    std::fs::create_dir_all(directory()).unwrap();
    for (name, cases) in FILES {
        let vectors: Vec<Value> = cases().iter().map(written).collect();
        let text = serde_json::to_string_pretty(&json!({ "format": 1, "vectors": vectors }));
        std::fs::write(directory().join(format!("{name}.json")), text.unwrap() + "\n").unwrap();
    }
    let text = serde_json::to_string_pretty(&repository::make()).unwrap();
    std::fs::write(directory().join("repository.json"), text + "\n").unwrap();
}

fn read(name: &str) -> Value {
    let path = directory().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    serde_json::from_str(&text).unwrap()
}

/// Goal: every parser gives what the vectors say, field by field, rule by rule.
#[test]
fn parsers_agree_with_the_vectors() {
    if std::env::var_os("ESKER_WRITE_VECTORS").is_some() {
        write_all();
    }
    let mut count = 0;
    for (name, _) in FILES {
        for vector in read(name)["vectors"].as_array().unwrap() {
            let kind = vector["kind"].as_str().unwrap();
            let outcome = run(kind, &vector["inputs"], &vector["keys"]);
            let expected = match vector["expect"].as_str().unwrap() {
                "ok" => Ok(vector["fields"].clone()),
                _ => Err(vector["rule"].as_str().unwrap().to_owned()),
            };
            assert_eq!(outcome, expected, "{name}: {}", vector["name"]);
            count += 1;
        }
    }
    reading::check(&read("repository"));
    assert!(count > 200, "only {count} vectors");
}

/// Goal: a rule that a parser can give has a vector that breaks it.
#[test]
fn every_rule_of_the_parsers_has_a_vector() {
    if std::env::var_os("ESKER_WRITE_VECTORS").is_some() {
        return; // the other test is writing the files
    }
    let mut broken = std::collections::BTreeSet::new();
    for (name, _) in FILES {
        for vector in read(name)["vectors"].as_array().unwrap() {
            broken.extend(vector["rule"].as_str().map(str::to_owned));
        }
    }
    let mut paths = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format")];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for rule in code.split('"').filter(|part| is_rule(part)) {
            assert!(broken.contains(rule), "no vector breaks {rule}");
        }
    }
}

fn is_rule(text: &str) -> bool {
    text.split_once('-').is_some_and(|(name, number)| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
