//! `key export`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::secrets::read_key;
use super::streams::Output;
use super::{Context, Exit, Outcome};
use crate::keys::{self, SheetKey};

/// Print a recovery sheet, as text and QR code
///
/// It holds what a stranger with a new machine needs: where the repository is, its id, the key or
/// where it is kept, and the two commands.
#[derive(Args)]
pub struct Arguments {
    /// Print the key of this file on the sheet: who has the sheet then has the data
    #[arg(long, value_name = "FILE", conflicts_with = "kept_at")]
    with_key: Option<PathBuf>,

    /// Print where the key or password is kept, in your own words
    #[arg(long, value_name = "TEXT")]
    kept_at: Option<String>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let key = match &arguments.with_key {
        Some(path) => SheetKey::KeyFile(read_key(path)?),
        None => SheetKey::KeptAt(arguments.kept_at.clone().unwrap_or_default()),
    };
    let sheet = keys::export(&repository, &key, repository.url())?;
    let mut output = Output::new();
    match context.json() {
        true => output.json("sheet", json!({ "text": *sheet.text, "payload": *sheet.payload }))?,
        false => {
            output.line(&sheet.text)?;
            output.line(&sheet.qr)?;
        }
    }
    output.finish()?;
    Ok(Exit::Ok)
}
