//! Asks repositories, and puts together what each has of every host and profile, and what is amiss.

use super::directory;
use crate::cli::backup::host_name;
use crate::cli::context::Context;
use crate::cli::everywhere::{self, Answer};
use crate::config::profile::ProfileKind;
use crate::overdue::{Expected, Memory, Remark, Seen, expected, judge};
use crate::repository::runs::Whereabouts;
use crate::repository::sync::Troubles;
use crate::repository::{Error, Repository, Result, now_ms};
use crate::status::{Group, groups, overview};

/// A repository, and what it answered.
pub struct Asked {
    /// Nothing where it goes without saying.
    pub name: Option<String>,
    /// It may be away for a while.
    pub is_removable: bool,
    pub result: Result<Told>,
    /// In ms since 1970.
    pub now: u64,
}

pub struct Told {
    pub repository: Repository,
    pub seen: Seen,
    /// Of records that could not be read.
    pub doubts: Troubles,
}

/// One host and profile in one repository, or a repository of which nothing is known.
pub struct Row<'a> {
    pub asked: &'a Asked,
    pub expected: Expected,
    /// What the repository has of it.
    pub group: Option<Group<'a>>,
    pub remarks: Vec<Remark>,
}

/// The repository that is meant; that it cannot be asked is an error.
pub fn ask_one(context: &Context) -> Result<Asked> {
    let typed = context.global.repository.as_ref().map(|name| name.to_string_lossy().into_owned());
    let told = look(context.open()?)?;
    let is_removable = false;
    Ok(Asked { name: typed, is_removable, result: Ok(told), now: now_ms() })
}

/// All of the configuration at once.
pub fn ask_all(context: &Context) -> Result<Vec<Asked>> {
    let names = everywhere::names(context)?;
    let answers = everywhere::ask(context, &names, |_, repository| look(repository));
    let asked = answers.into_iter().map(|Answer { name, result }| {
        let is_removable = everywhere::is_removable(context, &name)?;
        Ok(Asked { name: Some(name), is_removable, result, now: now_ms() })
    });
    asked.collect()
}

fn look(repository: Repository) -> Result<Told> {
    let overview = overview(&repository, &Whereabouts::here(repository.id()), now_ms())?;
    let (records, doubts) = match repository.list_records() {
        Ok(listing) => (Some(listing.records), listing.troubles),
        Err(error) => (None, vec![error]),
    };
    let seen = Seen::new(&repository, overview, records);
    Ok(Told { repository, seen, doubts })
}

/// What profiles of the configuration are to keep comes first, then what else repositories have.
pub fn rows<'a>(context: &Context, asked: &'a [Asked]) -> Result<Vec<Row<'a>>> {
    let directory = directory(context);
    let here = host_name();
    let mut all = Vec::new();
    for profile in context.profiles()?.iter().filter(|p| p.kind() != ProfileKind::Template) {
        let memory = directory.as_ref().map(|directory| Memory::read(directory, &profile.name));
        all.extend(expected(profile, &here, memory.as_ref()));
    }
    let mut rows = Vec::new();
    for asked in asked {
        // without a name it is the default one of the configuration
        let default = context.configuration()?.file.repository.as_ref();
        let name =
            asked.name.as_ref().or(default.filter(|_| context.environment.repository.is_none()));
        let here =
            all.iter().filter(|expected| name.is_some() && expected.repository.as_ref() == name);
        let here: Vec<Expected> = here.cloned().collect();
        match &asked.result {
            Ok(told) => rows.extend(known(asked, told, here)),
            Err(error) => rows.extend(unknown(asked, error, here)),
        }
    }
    Ok(rows)
}

fn known<'a>(asked: &'a Asked, told: &'a Told, expected: Vec<Expected>) -> Vec<Row<'a>> {
    let groups = groups(&told.seen.overview);
    let now = told.seen.overview.now;
    let find = |wanted: &Expected| groups.iter().find(|g| wanted.is_of(g.host, g.profile)).cloned();
    let is_source = |wanted: &Expected| wanted.kind == ProfileKind::Backup;
    let others = groups.iter().filter(|group| {
        !expected.iter().any(|wanted| is_source(wanted) && wanted.is_of(group.host, group.profile))
    });
    let others = others.map(|group| Expected::of_group(group, asked.name.as_deref(), now));
    let others: Vec<Expected> = others.collect();
    let mut rows = Vec::new();
    for expected in expected.into_iter().chain(others) {
        let group = find(&expected);
        let remarks = judge(&expected, group.as_ref(), &told.seen);
        rows.push(Row { asked, expected, group, remarks });
    }
    rows
}

/// That it cannot be asked is amiss for each profile that needs it, and without any for itself.
fn unknown<'a>(asked: &'a Asked, error: &Error, mut expected: Vec<Expected>) -> Vec<Row<'a>> {
    if expected.is_empty() {
        expected.push(Expected::of_repository(asked.name.as_deref()));
    }
    let row = |expected: Expected| {
        let remark = expected.away(&error.message, asked.is_removable, asked.now);
        Row { asked, expected, group: None, remarks: remark.into_iter().collect() }
    };
    expected.into_iter().map(row).collect()
}
