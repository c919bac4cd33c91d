//! `init`: makes a repository, and is the only command that does.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::location::Place;
use super::named::Named;
use super::other::Other;
use super::secrets::{Origin, new_key_file, read_key};
use super::streams::Output;
use super::{Exit, Outcome, values};
use crate::chunker::{ChunkerParams, DEFAULT_AVERAGE};
use crate::config;
use crate::crypto::SecretKey;
use crate::repository::{Error, ErrorKind, InitOptions, NewSlot, Repository, Result};
use crate::store::RESERVE_BYTES;

/// Make a repository
///
/// Without -r the repository is made in your data directory and written down in the configuration
/// file, so that later commands find it. A key file named by --key-file is made if it is not there.
#[derive(Args)]
pub struct Arguments {
    /// Average size of the pieces that streams are cut into: 4K to 1M, a power of two
    #[arg(long, conflicts_with = "chunker_from")]
    #[arg(value_name = "SIZE", default_value_t = format!("{}K", DEFAULT_AVERAGE / 1024), value_parser = chunk_size_text)]
    chunk_size: String,

    /// A name for the first key, as `key list` shows it
    #[arg(long, value_name = "TEXT", default_value = "owner")]
    label: String,

    #[command(flatten)]
    from: ChunkerFrom,
}

#[derive(Args)]
#[command(next_help_heading = "Cut like another repository")]
struct ChunkerFrom {
    /// Cut as this repository does, so that copies between the two, and backups into both, share chunks.
    /// Needs a full or write key of it
    #[arg(long, value_name = "URL|PATH")]
    chunker_from: Option<OsString>,

    /// Open it with this key file
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["chunker_from_password_file", "chunker_from_password_command"])]
    chunker_from_key_file: Option<PathBuf>,

    /// Read its password from this file
    #[arg(long, value_name = "FILE", conflicts_with = "chunker_from_password_command")]
    chunker_from_password_file: Option<PathBuf>,

    /// Run this in a shell; it prints its password
    #[arg(long, value_name = "COMMAND")]
    chunker_from_password_command: Option<OsString>,
}

impl ChunkerFrom {
    /// Parameters and secret of the other repository, if one was named.
    fn read(&self, context: &Context) -> Result<Option<(ChunkerParams, SecretKey)>> {
        let other = Other {
            option: "chunker-from",
            prefix: "ESKER_CHUNKER_FROM",
            repository: self.chunker_from.as_ref(),
            key_file: self.chunker_from_key_file.as_ref(),
            password_file: self.chunker_from_password_file.as_ref(),
            password_command: self.chunker_from_password_command.as_ref(),
        };
        let Some(other) = other.open(context)? else { return Ok(None) };
        let key = other.keyring().chunker_key().map_err(|error| {
            let message = format!("{}: tells nobody how it cuts: {error}", other.url());
            Error::new(error.kind, message)
        })?;
        Ok(Some((other.update().chunker, key.clone())))
    }
}

fn chunk_size_text(text: &str) -> std::result::Result<String, String> {
    chunk_size(text).map(|_| text.to_owned())
}

fn chunk_size(text: &str) -> std::result::Result<ChunkerParams, String> {
    let average = u32::try_from(values::size(text)?).ok().and_then(ChunkerParams::new);
    average.ok_or_else(|| format!("{text:?} is no power of two from 4K to 1M"))
}

/// Where the repository goes, and the configuration file that is to name it.
struct Target {
    named: Named,
    record_in: Option<PathBuf>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let target = target(context)?;
    let usage = |text| Error::new(ErrorKind::Usage, text);
    let (chunker, chunker_key) = match arguments.from.read(context)? {
        Some((chunker, key)) => (chunker, Some(key)),
        None => (chunk_size(&arguments.chunk_size).map_err(usage)?, None),
    };
    let origin = Origin::find(&context.global, &context.environment, target.named.origin())?;
    let (slot, made_key) = new_slot(&origin)?;
    let created = create(
        context,
        &target,
        &InitOptions {
            slot,
            label: arguments.label.clone(),
            chunker,
            chunker_key,
            stretching: Default::default(),
        },
    );
    if let (Err(_), Some(path)) = (&created, &made_key) {
        // It opens nothing.
        let _ = std::fs::remove_file(path);
    }
    let (id, url) = created?;
    let key_file = if let Origin::KeyFile(path) = &origin { Some(absolute(path)) } else { None };
    if let Some(file) = &target.record_in {
        record(file, &target.named.place, key_file.clone())?;
    }
    if context.json() {
        let mut output = Output::new();
        output.json(
            "repository",
            json!({
                "id": id,
                "repository": url,
                "key_file": key_file.as_ref().map(|path| path.display().to_string()),
                "config_file": target.record_in.as_ref().map(|path| path.display().to_string()),
            }),
        )?;
        output.finish()?;
    }
    let key = match &key_file {
        Some(path) => format!("key file {}", path.display()),
        None => "your password".to_owned(),
    };
    context.say(&format!("made repository {} in {url}; it opens with {key}", &id[..8]));
    context.say("this is no backup until a copy of both, the repository and what opens it, lies on another machine");
    Ok(Exit::Ok)
}

fn target(context: &Context) -> Result<Target> {
    // one that was named and is not there yet is made
    let configured = context.config_place().map(|place| config::read(&place)).transpose()?;
    let configured = configured.flatten().map(|all| all.file).unwrap_or_default();
    let named = context.global.repository.as_ref().or(context.environment.repository.as_ref());
    if let Some(name) = named {
        return Ok(Target { named: Named::find(name, &configured)?, record_in: None });
    }
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    let nowhere = || usage("no place for a repository: name one with -r, or set HOME".to_owned());
    let directory = context.environment.default_repository().ok_or_else(nowhere)?;
    let file = context.config_file().ok_or_else(nowhere)?;
    if let Some(name) = &configured.repository {
        return Err(usage(format!(
            "{} names the repository {name} already: name a new one with -r",
            file.display()
        )));
    }
    if directory.to_str().is_none() {
        return Err(usage(format!("{} is not UTF-8: name a place with -r", directory.display())));
    }
    let named = Named::find(directory.as_os_str(), &configured)?;
    Ok(Target { named, record_in: Some(file) })
}

/// What will open the repository, and the key file if one was made for it.
fn new_slot(origin: &Origin) -> Result<(NewSlot, Option<PathBuf>)> {
    match origin {
        Origin::KeyFile(path) if path.symlink_metadata().is_ok() => {
            Ok((NewSlot::KeyFile(read_key(path)?), None))
        }
        Origin::KeyFile(path) => Ok((NewSlot::KeyFile(new_key_file(path)?), Some(path.clone()))),
        _ => match origin.new_password()? {
            Some(password) => Ok((NewSlot::Password(password), None)),
            None => Err(Error::new(ErrorKind::Usage, "init needs a password or a key file")),
        },
    }
}

fn create(context: &Context, target: &Target, options: &InitOptions) -> Result<(String, String)> {
    if let (Some(_), Place::Directory(directory)) = (&target.record_in, &target.named.place) {
        // The default place: the directories above it are ours to make.
        let parent = directory.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|error| Error::failed(format!("{}: {error}", parent.display())))?;
    }
    let store = context.create_store(&target.named)?;
    let id = Repository::init(&store, options)?;
    // Whatever this machine knew of the place, it is another repository now.
    context.cache().forget_location(store.url());
    if let Err(error) = store.create_reserve(RESERVE_BYTES) {
        context.warn(&format!("no room set aside for a full disk: {error}"));
    }
    Ok((id.to_hex(), store.url().to_owned()))
}

fn record(file: &Path, place: &Place, key_file: Option<PathBuf>) -> Result<()> {
    config::add(file, Some(&place.to_string()), key_file.as_deref()).map_err(|error| {
        let message =
            format!("made {place}, but cannot write that down ({error}): name it with -r");
        Error::new(error.kind, message)
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
