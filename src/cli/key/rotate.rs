//! `key rotate`

use clap::Args;
use serde_json::json;

use super::streams::Output;
use super::{Context, Exit, Outcome};
use crate::keys;
use crate::output;

/// Make new keys for everything stored from now on
#[derive(Args)]
pub struct Arguments {}

pub fn run(context: &Context, _: &Arguments) -> Outcome {
    let repository = context.open()?;
    let report = keys::rotate(&repository)?;
    if context.json() {
        let mut output = Output::new();
        output.json(
            "rotated",
            json!({
                "epoch": report.epoch,
                "update": report.update,
                "granted": report.granted,
                "combined": report.combined,
            }),
        )?;
        output.finish()?;
    }
    let others = output::counted(report.granted as u64, "other key");
    context.say(&format!("epoch {} begins; given to {others}", report.epoch));
    if report.combined {
        context.warn(
            "somebody else changed keys at the same time; both changes count: see `esker key list`",
        );
    }
    Ok(Exit::Ok)
}
