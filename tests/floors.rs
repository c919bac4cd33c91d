//! Imports only point down: reads the `use crate::` paths of every source file
//! and holds them against the floors named in `src/lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// Module and floor. A module may import from lower floors, and from those of
/// its own floor that `may_know_each_other` allows.
const FLOORS: &[(&str, u8)] = &[
    ("id", 0),
    ("chunker", 0),
    ("compression", 0),
    ("crypto", 0),
    ("progress", 0),
    ("format", 1),
    ("store", 2),
    ("files", 2),
    ("repository", 3),
    ("backup", 4),
    ("restore", 4),
    ("check", 4),
    ("probe", 4),
    ("scrub", 4),
    ("repair", 4),
    ("diff", 4),
    ("find", 4),
    ("list", 4),
    ("stats", 4),
    ("status", 4),
    ("tag", 4),
    ("cat", 4),
    ("copy", 4),
    ("select", 4),
    ("keys", 4),
    ("undo", 4),
    ("prune", 4),
    ("forget", 4),
    ("record", 4),
    ("config", 5),
    ("notify", 5),
    ("overdue", 5),
    ("suspicion", 5),
    ("source", 5),
    ("run", 5),
    ("schedule", 5),
    ("history", 5),
    ("wayback", 5),
    ("drill", 5),
    ("standby", 5),
    ("output", 5),
    ("cli", 5),
];

fn floor(module: &str) -> u8 {
    let known = FLOORS.iter().find(|(name, _)| *name == module);
    known.unwrap_or_else(|| panic!("module {module} stands on no floor: add it to FLOORS")).1
}

/// Floors 0 and 5 are each one household; elsewhere neighbours are strangers.
fn may_know_each_other(floor: u8) -> bool {
    matches!(floor, 0 | 5)
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every module that `crate::` paths in `text` begin with, those in braces
/// included.
fn imports(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(inside) => inside.split_once('}').map_or(inside, |(list, _)| list),
            None => rest
                .split_inclusive(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or(""),
        };
        for item in list.split(',') {
            let name: String =
                item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                modules.push(name);
            }
        }
    }
    modules
}

#[test]
fn imports_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources are not where this test looks");
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let own = floor(module);
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let theirs = floor(&import);
            let down = theirs < own || (theirs == own && may_know_each_other(own));
            if import != module && !down {
                wrong
                    .push(format!("{} (floor {own}) uses {import} ({theirs})", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::id::X; use crate::{store::Store, files}; let a = crate::crypto::f();";
    assert_eq!(imports(text), ["id", "store", "files", "crypto"]);
}
