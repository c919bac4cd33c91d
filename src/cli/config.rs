//! `config`: what is wrong with the configuration, its schema, and a profile with
//! all that it extends.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::environment::variable;
use super::exit::when;
use super::secrets::Origin;
use super::streams::Output;
use super::{Exit, Outcome, location};
use crate::config::rights::{self, Need};
use crate::config::{self, Configuration, Finding, Loaded, Profile};
use crate::format::slot::Role;
use crate::output::{self, Table};
use crate::repository::{Error, ErrorKind, Result};

/// Look at the configuration
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(Check),
    Show(Show),
    /// Print the JSON schema of configuration files
    Schema,
}

/// Say everything that is wrong with the configuration
///
/// Looks at the text; at this machine, whether programs, mounts and secrets are there; and at the
/// repositories, whether the key of a profile has the right to do what the profile says.
/// Exit code 2: something does not work as it is written. 75: only a repository is away.
#[derive(Args)]
struct Check {
    /// Only these
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,

    /// Look at the text only: no programs, no secrets, no repositories
    #[arg(long)]
    offline: bool,
}

/// Print a profile with all that it extends, and without secrets
#[derive(Args)]
struct Show {
    /// Without one: a table of all
    #[arg(value_name = "PROFILE")]
    profile: Option<String>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Check(arguments) => check(context, arguments),
        Command::Show(arguments) => show(context, arguments),
        Command::Schema => schema(),
    }
}

fn schema() -> Outcome {
    let mut output = Output::new();
    output.line(&format!("{:#}", config::schema()))?;
    output.finish()?;
    Ok(Exit::Ok)
}

fn show(context: &Context, arguments: &Show) -> Outcome {
    let Some(name) = &arguments.profile else { return list(context) };
    let profile = context.profile(name)?;
    let text = profile.without_secrets();
    let mut output = Output::new();
    match context.json() {
        true => {
            let unknown: Vec<&str> = Profile::unknown_secrets(&text).collect();
            let all: toml::Table = text.parse().map_err(|error| {
                Error::failed(format!("profile {} cannot be shown: {error}", profile.name))
            })?;
            let members =
                json!({ "name": profile.name, "configuration": all, "unknown_secrets": unknown });
            output.json("profile", members)?;
        }
        false => output.write(text.as_bytes())?,
    }
    output.finish()?;
    Ok(Exit::Ok)
}

fn list(context: &Context) -> Outcome {
    let mut output = Output::new();
    let mut table = Table::new(&["profile", "kind", "repositories", "schedule"]);
    for profile in context.profiles()? {
        let kind = profile.kind().name();
        if context.json() {
            let members = json!({
                "name": profile.name,
                "kind": kind,
                "repositories": profile.repositories(),
                "schedule": profile.schedule(),
            });
            output.json("profile", members)?;
        }
        let [name, repositories, schedule] = [
            profile.name.clone(),
            profile.repositories().join(", "),
            profile.schedule().join(", "),
        ]
        .map(|text| output::sentence(&text).into_owned());
        table.row([name, kind.to_owned(), repositories, schedule]);
    }
    if !context.json() && !table.is_empty() {
        output.table(&table)?;
    }
    output.finish()?;
    Ok(Exit::Ok)
}

fn check(context: &Context, arguments: &Check) -> Outcome {
    let Some(Loaded { configuration, mut findings, files }) = context.load_configuration()? else {
        let place = context.config_place();
        let place = place.map(|place| format!(" in {}", place.display())).unwrap_or_default();
        let message = format!("there is no configuration{place}: name a file with --config");
        return Err(Error::new(ErrorKind::Usage, message).into());
    };
    let profiles = selected(&configuration, &arguments.profiles)?;
    let place = |text: &str| location::place(OsStr::new(text)).err().map(|error| error.message);
    findings.extend(config::check::check(&configuration, &profiles, &place));
    let mut steps = Vec::new();
    if !arguments.offline {
        findings.extend(config::machine::check(&configuration, &profiles, &variable));
        // without a mistake: with one it is not known who opens what
        if !findings.iter().any(Finding::is_error) {
            steps = steps_of(context, &profiles);
        }
    }
    config::tidy(&mut findings);
    print(context, &findings, &steps)?;
    let mistakes = findings.iter().filter(|finding| finding.is_error()).count()
        + steps.iter().filter(|step| step.verdict.is_mistake()).count();
    let away = steps.iter().any(|step| matches!(step.verdict, Verdict::Away(_)));
    let warnings = findings.len() - findings.iter().filter(|finding| finding.is_error()).count();
    context.say(&format!(
        "{} in {}: {}, {}",
        output::counted(profiles.len() as u64, "profile"),
        output::counted(files.len() as u64, "file"),
        output::counted(mistakes as u64, "mistake"),
        output::counted(warnings as u64, "warning"),
    ));
    Ok(when(away, Exit::TryLater).and(when(mistakes > 0, Exit::Usage)))
}

/// The profiles that were named, as far as they are well written; all if none was.
fn selected<'a>(configuration: &'a Configuration, names: &[String]) -> Result<Vec<&'a Profile>> {
    if names.is_empty() {
        return Ok(configuration.profiles().iter().collect());
    }
    let well_written = names.iter().filter(|name| !configuration.is_broken(name));
    well_written.map(|name| configuration.profile(name)).collect()
}

/// A step of a profile, and what became of asking whether its key may do it.
struct Step {
    profile: String,
    need: Need,
    verdict: Verdict,
}

#[derive(Clone)]
enum Verdict {
    Opens(Role, bool),
    /// Nothing opens it without somebody at a terminal.
    Unattended,
    /// It may be away.
    Removed(String),
    Away(String),
    Fails(String),
}

impl Verdict {
    fn is_mistake(&self) -> bool {
        matches!(self, Verdict::Opens(_, false) | Verdict::Fails(_))
    }
}

/// Asks every repository once.
fn steps_of(context: &Context, profiles: &[&Profile]) -> Vec<Step> {
    let mut needs = Vec::new();
    for profile in profiles {
        needs.extend(rights::needs(profile).into_iter().map(|need| (profile.name.clone(), need)));
    }
    let names: BTreeSet<&str> = needs.iter().map(|(_, need)| need.repository.as_str()).collect();
    let asked = |name: &&str| ((*name).to_owned(), opens(context, name));
    let asked: BTreeMap<String, Verdict> = names.iter().map(asked).collect();
    let step = |(profile, need): (String, Need)| {
        let verdict = match asked.get(&need.repository) {
            Some(Verdict::Opens(role, _)) => Verdict::Opens(*role, need.right.is_of(*role)),
            Some(other) => other.clone(),
            None => Verdict::Unattended,
        };
        Step { profile, need, verdict }
    };
    needs.into_iter().map(step).collect()
}

/// What a repository's key is, or why that cannot be told.
fn opens(context: &Context, name: &str) -> Verdict {
    let ask = || {
        let named = context.named(name.as_ref())?;
        if matches!(context.origin_of(&named)?, Origin::Terminal) {
            return Ok(Verdict::Unattended);
        }
        match context.open_named(name) {
            Ok(repository) => Ok(Verdict::Opens(repository.keyring().role, true)),
            Err(error) if named.is_removable() && error.kind == ErrorKind::NoRepository => {
                Ok(Verdict::Removed(error.message))
            }
            Err(error) => Err(error),
        }
    };
    ask().unwrap_or_else(|error: Error| match error.kind {
        ErrorKind::TryLater => Verdict::Away(error.message),
        _ => Verdict::Fails(error.message),
    })
}

impl Step {
    /// What its owner is told; the second part is empty where all is well.
    fn words(&self) -> (&'static str, String) {
        let Need { repository, step, right } = &self.need;
        match &self.verdict {
            Verdict::Opens(_, true) => ("ok", String::new()),
            Verdict::Opens(role, false) => {
                let (role, keys) = (role.name(), right.keys());
                let told = format!(
                    "the key is a {role} key, and {step} needs a {keys} key: give the profile one, or let a profile of somebody who has one do it, on {repository:?}"
                );
                ("error", told)
            }
            Verdict::Unattended => {
                let told = format!(
                    "nothing opens {repository:?} when nobody is there to type a password: give it `key_file` or `password`"
                );
                ("warning", told)
            }
            Verdict::Removed(reason) => ("removed", reason.clone()),
            Verdict::Away(reason) => ("away", reason.clone()),
            Verdict::Fails(reason) => ("error", reason.clone()),
        }
    }

    fn role(&self) -> Option<&'static str> {
        match self.verdict {
            Verdict::Opens(role, _) => Some(role.name()),
            _ => None,
        }
    }

    fn json(&self) -> Value {
        let (state, message) = self.words();
        json!({
            "profile": self.profile,
            "repository": self.need.repository,
            "step": self.need.step,
            "needs": self.need.right.keys(),
            "key": self.role(),
            "state": state,
            "message": Some(message).filter(|message| !message.is_empty()),
        })
    }
}

fn print(context: &Context, findings: &[Finding], steps: &[Step]) -> std::io::Result<()> {
    let mut output = Output::new();
    if context.json() {
        for finding in findings {
            output.json("finding", finding_json(finding))?;
        }
        for step in steps {
            output.json("step", step.json())?;
        }
        return output.finish();
    }
    let mut table = Table::new(&["where", "", "what"]);
    for finding in findings {
        table.row([
            output::sentence(&finding.at.to_string()).into_owned(),
            severity(finding).to_owned(),
            output::sentence(&finding.sentence).into_owned(),
        ]);
    }
    if !table.is_empty() {
        output.table(&table)?;
    }
    let all_well = steps.iter().all(|step| step.words().0 == "ok");
    let is_told = !context.global.quiet || !all_well;
    if !steps.is_empty() && is_told {
        output.table(&step_table(steps))?;
    }
    output.finish()
}

fn step_table(steps: &[Step]) -> Table {
    let mut table = Table::new(&["profile", "repository", "step", "key", "", "why"]);
    for step in steps {
        let (state, message) = step.words();
        table.row([
            output::sentence(&step.profile).into_owned(),
            output::sentence(&step.need.repository).into_owned(),
            step.need.step.to_owned(),
            step.role().unwrap_or_default().to_owned(),
            state.to_owned(),
            output::sentence(&message).into_owned(),
        ]);
    }
    table
}

fn severity(finding: &Finding) -> &'static str {
    if finding.is_error() { "error" } else { "warning" }
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "file": finding.at.file.display().to_string(),
        "line": finding.at.line,
        "severity": severity(finding),
        "message": finding.sentence,
    })
}
