//! `store test`: what a store can do, before it is trusted with anything.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::exit::when;
use super::streams::Output;
use super::{Exit, Outcome};
use crate::output::{self, Table};
use crate::probe::{Finding, ProbeReport, Verdict, probe};

/// Find out what a store can do
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put, list, read and delete some objects, and say what holds
    ///
    /// Needs no repository there. What is put lies under `test/` and is removed at the end.
    Test {
        /// The store; the usual repository without it
        #[arg(value_name = "URL|PATH")]
        store: Option<std::ffi::OsString>,
    },
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let Command::Test { store } = &arguments.command;
    let store = match store {
        Some(name) => context.store_of(&context.named(name)?)?,
        None => context.store()?,
    };
    let report = probe(&*store)?;
    let mut output = Output::new();
    match context.json() {
        true => print_json(&mut output, store.url(), &report)?,
        false => print_table(&mut output, &report)?,
    }
    output.finish()?;
    let verdict = match report.is_ok() {
        true => "backups can rely on it",
        false => "backups must NOT rely on it",
    };
    context.say(&format!("{}: {verdict}", store.url()));
    Ok(when(!report.is_ok(), Exit::Failed))
}

fn print_json(output: &mut Output, url: &str, report: &ProbeReport) -> std::io::Result<()> {
    let finding = |finding: &Finding| {
        json!({
            "name": finding.name,
            "holds": finding.verdict == Verdict::Yes,
            "needed": finding.needed,
            "detail": finding.detail,
        })
    };
    let us = |time: Duration| time.as_micros() as u64;
    output.json(
        "store",
        json!({
            "store": url,
            "ok": report.is_ok(),
            "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
            "put_us": us(report.put),
            "get_us": us(report.get),
            "list_us": us(report.list),
            "delete_us": us(report.delete),
            "put_bytes_per_second": report.put_rate,
            "get_bytes_per_second": report.get_rate,
        }),
    )
}

fn print_table(output: &mut Output, report: &ProbeReport) -> std::io::Result<()> {
    let mut table = Table::new(&["what", "holds", "seen"]);
    for finding in &report.findings {
        let holds = match (finding.verdict, finding.needed) {
            (Verdict::Yes, _) => "yes",
            (Verdict::No, true) => "NO",
            (Verdict::No, false) => "no",
        };
        table.row([finding.question.to_owned(), holds.to_owned(), finding.detail.clone()]);
    }
    output.table(&table)?;
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    output.line(&format!(
        "\nput {}, get {}, list {}, delete {}; {}/s up, {}/s down",
        ms(report.put),
        ms(report.get),
        ms(report.list),
        ms(report.delete),
        output::size(report.put_rate),
        output::size(report.get_rate),
    ))
}
