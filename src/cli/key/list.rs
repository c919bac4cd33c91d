//! `key list`

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::json;

use super::exit::when;
use super::streams::Output;
use super::{Context, Exit, Outcome};
use crate::format::slot::Method;
use crate::keys::{self, KeyInfo};
use crate::output::{self, Table};

/// List keys: role, owner, age, and where each was last used
#[derive(Args)]
pub struct Arguments {}

pub fn run(context: &Context, _: &Arguments) -> Outcome {
    let repository = context.open()?;
    let (keys, troubles) = keys::list(&repository)?;
    let mut output = Output::new();
    match context.json() {
        true => keys.iter().try_for_each(|key| output.json("key", to_json(key)))?,
        false => output.table(&table(&keys))?,
    }
    output.finish()?;
    for trouble in &troubles {
        context.warn(&trouble.message);
    }
    Ok(when(!troubles.is_empty(), Exit::Damage))
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Password => "password",
        Method::KeyFile => "key file",
        Method::Recipient => "recipient",
    }
}

fn table(keys: &[KeyInfo]) -> Table {
    let zone = TimeZone::system();
    let text = |text: &str| output::sentence(text).into_owned();
    let mut table = Table::new(&[
        "id",
        "role",
        "label",
        "opens with",
        "created",
        "by",
        "last used",
        "on",
        "domain",
        "status",
    ]);
    for key in keys {
        let mut status = Vec::new();
        if key.revoked.is_some() {
            status.push("revoked");
        }
        if key.slot.is_none() {
            status.push("removed");
        }
        if key.in_use {
            status.push("this one");
        }
        table.row([
            key.slot.map(|id| id.to_hex()[..8].to_owned()).unwrap_or_default(),
            key.role.name().to_owned(),
            text(&key.label),
            key.method.map(method).unwrap_or_default().to_owned(),
            output::time(key.created, &zone),
            text(&key.created_by),
            key.last_used.as_ref().map(|(time, _)| output::time(*time, &zone)).unwrap_or_default(),
            key.last_used.as_ref().map(|(_, host)| text(host)).unwrap_or_default(),
            text(&key.domain),
            status.join(", "),
        ]);
    }
    table
}

fn to_json(key: &KeyInfo) -> serde_json::Value {
    json!({
        "id": key.slot.map(|id| id.to_hex()),
        "writer": key.writer.to_hex(),
        "role": key.role.name(),
        "label": key.label,
        "method": key.method.map(method),
        "created": output::rfc3339(key.created),
        "created_by": key.created_by,
        "domain": key.domain,
        "revoked": key.revoked.map(output::rfc3339),
        "last_used": key.last_used.as_ref().map(|(time, _)| output::rfc3339(*time)),
        "last_used_host": key.last_used.as_ref().map(|(_, host)| host),
        "in_use": key.in_use,
    })
}
