//! A sink that keeps all it is given, and sources made from what stands in a profile.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker::backup::{Attentive, Sink};
use esker::config::profile::Source as Settings;
use esker::config::value::Secret;
use esker::format::entry::{EntryKind, Metadata};
use esker::progress::Silent;
use esker::repository::Error;
use esker::source::preset::{PresetSource, RestoreStep, Stored};
use esker::source::{Source, Surroundings, Told};
use esker::wayback::command::{Command, feed};
use zeroize::Zeroizing;

#[derive(Default)]
pub struct Memory {
    pub files: BTreeMap<String, (Metadata, Vec<u8>)>,
    pub entries: BTreeMap<String, (EntryKind, Metadata)>,
    pub links: BTreeMap<String, String>,
    pub notes: Vec<String>,
    pub over: Arc<AtomicBool>,
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Sink for Memory {
    fn file(&mut self, path: &[u8], metadata: Metadata, reader: &mut dyn Read) -> io::Result<u64> {
        let mut bytes = Vec::new();
        let over = || self.over.load(Ordering::Relaxed);
        Attentive { reader, over: &over }.read_to_end(&mut bytes)?;
        let length = bytes.len() as u64;
        self.files.insert(text(path), (metadata, bytes));
        Ok(length)
    }

    fn entry(&mut self, path: &[u8], kind: EntryKind, metadata: Metadata) -> io::Result<()> {
        self.entries.insert(text(path), (kind, metadata));
        Ok(())
    }

    fn link(&mut self, path: &[u8], to: &[u8]) -> io::Result<()> {
        if !self.files.contains_key(&text(to)) && !self.links.contains_key(&text(to)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no file before it"));
        }
        self.links.insert(text(path), text(to));
        Ok(())
    }

    fn note(&mut self, path: &[u8], note: &str) {
        self.notes.push(format!("{}: {note}", text(path)));
    }

    fn interrupted(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Memory {
    pub fn bytes(&self, path: &str) -> &[u8] {
        match self.files.get(path) {
            Some((_, bytes)) => bytes,
            None => panic!("no {path:?} among {:?}", self.files.keys()),
        }
    }

    pub fn stored(&self) -> Stored {
        self.files
            .iter()
            .map(|(path, (metadata, _))| (path.clone().into_bytes(), metadata.clone()))
            .collect()
    }
}

/// The source of a profile's lines.
pub fn source(lines: &str) -> esker::repository::Result<Source> {
    source_with_id(lines, None)
}

pub fn source_with_id(lines: &str, id: Option<u32>) -> esker::repository::Result<Source> {
    let settings: Settings =
        toml::from_str(lines).unwrap_or_else(|error| panic!("{lines}\n{error}"));
    let reveal = |secret: &Secret| match secret {
        Secret::Text(text) => Ok(Zeroizing::new(text.clone())),
        Secret::Reference(_) => panic!("tests have secrets as text"),
    };
    let surroundings = Surroundings {
        path: std::env::var_os("PATH").unwrap_or_default(),
        temporary: std::env::temp_dir(),
        reveal: &reveal,
        id,
    };
    Source::new(&settings, &surroundings).map(|source| source.expect("no source of paths"))
}

pub fn preset(lines: &str) -> PresetSource {
    match source(lines).expect("a source") {
        Source::Preset(preset) => *preset,
        _ => panic!("no preset: {lines}"),
    }
}

/// Captures the source of these lines.
pub fn capture(lines: &str) -> (Memory, Result<(), String>, Told) {
    capture_source(source(lines).expect("a source"))
}

pub fn capture_source(source: Source) -> (Memory, Result<(), String>, Told) {
    let (stream, told) = source.stream();
    let mut memory = Memory::default();
    let outcome = (stream.capture)(&mut memory);
    (memory, outcome, told)
}

/// Captures, and expects a failure whose sentence has these words in it.
pub fn fails(lines: &str, words: &[&str]) {
    let (_, outcome, _) = capture(lines);
    let message = outcome.expect_err(lines);
    for word in words {
        assert!(message.contains(word), "{message:?} says nothing of {word:?}\n{lines}");
    }
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.len() < 1500, "{message:?}");
}

/// Puts back what was captured.
pub fn restore(preset: &PresetSource, memory: &Memory) -> Result<(), String> {
    for step in preset.restore_steps(&memory.stored()).map_err(|error| error.message)? {
        match step {
            RestoreStep::Command(step) => {
                let path = String::from_utf8(step.path.clone()).unwrap();
                let bytes = memory.bytes(&path);
                let write = |out: &mut dyn Write| out.write_all(bytes).map_err(from_pipe);
                feed("source", &Command::from(step), &Silent, write)
                    .map_err(|error| error.message)?;
            }
            RestoreStep::Place { from, to } => {
                place(memory, &String::from_utf8(from).unwrap(), &to)
            }
            RestoreStep::Call(step) => {
                let path = String::from_utf8(step.path.clone()).unwrap();
                step.run(memory.bytes(&path), &|| false)?;
            }
        }
    }
    Ok(())
}

fn from_pipe(error: io::Error) -> Error {
    Error::failed(error.to_string())
}

fn place(memory: &Memory, from: &str, to: &Path) {
    for (path, (_, bytes)) in &memory.files {
        if let Some(relative) = path.strip_prefix(&format!("{from}/")) {
            let path = to.join(relative);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

/// An executable file of a shell's lines.
pub fn script(path: &Path, lines: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
