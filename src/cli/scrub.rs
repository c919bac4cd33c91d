//! `scrub`: compares every object with its hash, without any key.

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::exit::when;
use super::streams::Output;
use super::{Exit, Outcome};
use crate::output;
use crate::scrub::{ScrubOptions, scrub};

/// Verify the hashes of all objects; needs no key
///
/// This finds flipped and lost bytes. Whether anything is missing, and what the bytes mean, is what
/// `check` finds out.
#[derive(Args)]
pub struct Arguments {
    /// Only objects whose key begins with this
    #[arg(long, value_name = "PREFIX")]
    prefix: Vec<String>,

    /// How many objects to read at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    concurrency: u8,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let store = context.store()?;
    let options = ScrubOptions {
        prefixes: arguments.prefix.clone(),
        threads: usize::from(arguments.concurrency),
        ..ScrubOptions::default()
    };
    let reporter = context.reporter();
    let scrubbed = scrub(&*store, &options, &reporter);
    reporter.finish();
    let report = scrubbed?;
    let mut output = Output::new();
    for mismatch in &report.mismatches {
        match context.json() {
            true => output.json("damage", json!({ "key": mismatch.key, "what": mismatch.what }))?,
            false => {
                output.line(&output::sentence(&format!("{}: {}", mismatch.key, mismatch.what)))?
            }
        }
    }
    if context.json() {
        output.json(
            "summary",
            json!({
                "repository": store.url(),
                "objects": report.objects,
                "bytes": report.bytes,
                "damaged": report.mismatches.len(),
                "strangers": report.strangers,
                "gone": report.gone,
            }),
        )?;
    }
    output.finish()?;
    for stranger in &report.strangers {
        context.say(&format!("{stranger}: not an object of this format; left alone"));
    }
    let objects = output::counted(report.objects, "object");
    let verdict = match report.mismatches.len() as u64 {
        0 => "all as their hashes say".to_owned(),
        damaged => format!("{} DAMAGED", output::count(damaged)),
    };
    context.say(&format!("{objects}, {}: {verdict}", output::size(report.bytes)));
    Ok(when(!report.is_ok(), Exit::Damage))
}
