//! `key add`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::secrets::{Origin, new_key_file, read_key, read_text};
use super::streams::Output;
use super::{Context, Exit, Outcome};
use crate::format::slot::Role;
use crate::keys::{self, AddOptions, file};
use crate::repository::{Error, ErrorKind, NewSlot, Result};

/// Add a key: for another machine or person, or another password
///
/// Without --new-key-file, --new-password-file or --recipient the new password is asked for.
#[derive(Args)]
pub struct Arguments {
    /// What the key may do
    #[arg(long, value_enum, default_value_t = RoleArgument::Full)]
    role: RoleArgument,

    /// Whose key it is, as `key list` shows it
    #[arg(long, value_name = "TEXT")]
    label: String,

    /// The new key is in this file; made if it is not there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_password_file", "recipient"])]
    new_key_file: Option<PathBuf>,

    /// Read the new password from this file
    #[arg(long, value_name = "FILE", conflicts_with = "recipient")]
    new_password_file: Option<PathBuf>,

    /// The new key is a recipient's: what `key identity` printed on that machine, or a file with it
    #[arg(long, value_name = "RECIPIENT|FILE")]
    recipient: Option<String>,

    /// Build on the chunks of this domain; who shares one can tell what the others have stored
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,

    /// Another way to open this same full key, not a key of its own
    #[arg(long)]
    same_writer: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArgument {
    /// Everything
    Full,
    /// Back up; read nothing, not even what it wrote
    Write,
    /// Restore and check
    Read,
    /// Forget, prune and scrub; read nothing
    Maintain,
    /// Status, snapshots, statistics
    Watch,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Role {
        match role {
            RoleArgument::Full => Role::Full,
            RoleArgument::Write => Role::Write,
            RoleArgument::Read => Role::Read,
            RoleArgument::Maintain => Role::Maintain,
            RoleArgument::Watch => Role::Watch,
        }
    }
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    repository.keyring().require_full()?;
    let (slot, made) = new_slot(arguments)?;
    let added = keys::add(
        &repository,
        &AddOptions {
            role: arguments.role.into(),
            label: arguments.label.clone(),
            slot,
            domain: arguments.domain.clone(),
            same_writer: arguments.same_writer,
        },
    );
    if let (Err(_), Some(path)) = (&added, &made) {
        // It opens nothing.
        let _ = std::fs::remove_file(path);
    }
    let report = added?;
    if context.json() {
        let mut output = Output::new();
        output.json(
            "key",
            json!({
                "id": report.slot.to_hex(),
                "writer": report.writer.to_hex(),
                "role": report.role.name(),
                "domain": report.domain,
                "update": report.update,
                "combined": report.combined,
                "admin_key": crate::id::hex(&repository.keyring().admin.0),
            }),
        )?;
        output.finish()?;
    }
    let id = &report.slot.to_hex()[..8];
    context.say(&format!("added {} key {id}, {}", report.role.name(), arguments.label));
    if arguments.recipient.is_some() {
        let admin = crate::id::hex(&repository.keyring().admin.0);
        context.say(&format!("its holder needs the repository's admin key: {admin}"));
    }
    if report.combined {
        context.warn(
            "somebody else changed keys at the same time; both changes count: see `esker key list`",
        );
    }
    Ok(Exit::Ok)
}

/// What will open the new slot, and the key file if one was made for it.
fn new_slot(arguments: &Arguments) -> Result<(NewSlot, Option<PathBuf>)> {
    if let Some(path) = &arguments.new_key_file {
        return match path.symlink_metadata() {
            Ok(_) => Ok((NewSlot::KeyFile(read_key(path)?), None)),
            Err(_) => Ok((NewSlot::KeyFile(new_key_file(path)?), Some(path.clone()))),
        };
    }
    if let Some(text) = &arguments.recipient {
        let recipient = match file::parse_recipient(text) {
            Ok(recipient) => recipient,
            Err(_) => file::parse_recipient(&read_text(text.as_ref())?)?,
        };
        return Ok((NewSlot::Recipient(recipient), None));
    }
    let origin = match &arguments.new_password_file {
        Some(path) => Origin::PasswordFile(path.clone()),
        None => Origin::Terminal,
    };
    match origin.new_password()? {
        Some(password) => Ok((NewSlot::Password(password), None)),
        None => Err(Error::new(ErrorKind::Usage, "a new key needs a password or a key file")),
    }
}
