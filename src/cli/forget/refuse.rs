//! What is not done unless it is said twice: to leave a group with nothing, and
//! to go by something that matches nothing, which is most often a typo.

use super::Request;
use super::arguments::Arguments;
use super::show::group_name;
use crate::forget::Plan;
use crate::repository::snapshots::Listing;
use crate::repository::{Error, Repository, Result};
use crate::select::Filter;

pub fn check(
    repository: &Repository,
    listing: &Listing,
    plan: &Plan<'_>,
    arguments: &Arguments,
    request: Request,
) -> Result<()> {
    if request != Request::Named && !listing.snapshots.is_empty() {
        filter_matches(repository, listing, &arguments.narrow.filter())?;
    }
    if let (Some(tag), false) = (plan.unmatched_tags.first(), listing.snapshots.is_empty()) {
        return refuse(&format!("--keep-tag {tag}: no snapshot has this tag"));
    }
    match plan.groups.iter().find(|group| group.is_emptied()) {
        Some(group) => {
            let name = group_name(repository, group);
            refuse(&format!("no good snapshot would be left of {name}"))
        }
        None => Ok(()),
    }
}

fn refuse(why: &str) -> Result<()> {
    Err(Error::failed(format!(
        "{why}: nothing was forgotten; say --allow-empty as well if that is meant"
    )))
}

/// Every value that narrows matches something, and all of them together do.
fn filter_matches(repository: &Repository, listing: &Listing, filter: &Filter) -> Result<()> {
    let none = Filter::default;
    let single =
        |values: &[String], option: &'static str, of: fn(&mut Filter) -> &mut Vec<String>| {
            let filters = values.iter().map(|value| {
                let mut filter = none();
                of(&mut filter).push(value.clone());
                (format!("--{option} {value}"), filter)
            });
            filters.collect::<Vec<_>>()
        };
    let mut filters = single(&filter.hosts, "host", |filter| &mut filter.hosts);
    filters.extend(single(&filter.profiles, "profile", |filter| &mut filter.profiles));
    filters.extend(single(&filter.tags, "tag", |filter| &mut filter.tags));
    filters.extend(filter.sources.iter().map(|source| {
        let name = format!("--source {}", crate::output::path(source));
        (name, Filter { sources: vec![source.clone()], ..none() })
    }));
    filters.push(("all that was asked together".to_owned(), filter.clone()));
    for (name, filter) in &filters {
        let matcher = filter.matcher(repository.keyring())?;
        if !listing.snapshots.iter().any(|snapshot| matcher.matches(snapshot)) {
            return refuse(&format!("{name}: no snapshot matches"));
        }
    }
    Ok(())
}
