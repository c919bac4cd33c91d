//! `key identity`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::streams::Output;
use super::{Context, Exit, Outcome};
use crate::crypto::HybridPrivate;
use crate::keys::file;

/// Make an identity on this machine, and print the recipient to be added elsewhere
///
/// The private key never leaves this machine. The admin key is what `key add --recipient` prints,
/// or a recovery sheet; without it a store could show you a repository of its own making.
#[derive(Args)]
pub struct Arguments {
    /// The identity file to make
    file: PathBuf,

    /// The repository's admin key, in hex
    #[arg(long, value_name = "HEX")]
    admin_key: String,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let admin = file::parse_admin_key(&arguments.admin_key)?;
    let key = HybridPrivate::random();
    file::write_new(&arguments.file, &file::identity_text(&key, &admin))?;
    let recipient = file::recipient_text(&key.public());
    let mut output = Output::new();
    match context.json() {
        true => output.json("identity", json!({ "recipient": recipient }))?,
        false => output.line(&recipient)?,
    }
    output.finish()?;
    context.say(&format!("made {}; use it with --identity", arguments.file.display()));
    Ok(Exit::Ok)
}
