//! Every repository of the configuration, asked at the same time.

use std::collections::BTreeSet;
use std::thread;

use super::context::Context;
use super::named::Named;
use crate::repository::{Error, Repository, Result, Unlock};

/// What one of them answered, or why it did not.
pub struct Answer<T> {
    /// As the configuration calls it.
    pub name: String,
    pub result: Result<T>,
}

/// All that the configuration names: its list of repositories, its default, and what profiles save to and copy to.
pub fn names(context: &Context) -> Result<Vec<String>> {
    let configuration = context.configuration()?;
    let mut names: BTreeSet<&String> = configuration.file.repositories.keys().collect();
    names.extend(&configuration.file.repository);
    for profile in configuration.profiles() {
        names.extend(profile.repositories());
        names.extend(profile.copies().iter().map(|copy| &copy.to));
    }
    Ok(names.into_iter().cloned().collect())
}

/// Whether a repository may be away.
pub fn is_removable(context: &Context, name: &str) -> Result<bool> {
    let repositories = &context.configuration()?.file.repositories;
    Ok(repositories.get(name).is_some_and(|settings| settings.removable))
}

/// Opens repositories and asks each, all at once, and answers in the order of the names. Passwords are asked for one
/// after the other, before anything is opened.
pub fn ask<T: Send>(
    context: &Context,
    names: &[String],
    question: impl Fn(&str, Repository) -> Result<T> + Sync,
) -> Vec<Answer<T>> {
    let cache = context.cache();
    let unlocked: Vec<Result<(Named, Unlock)>> = names
        .iter()
        .map(|name| {
            let named = context.named(name.as_ref())?;
            let unlock = context.origin_of(&named)?.unlock_of(name)?;
            Ok((named, unlock))
        })
        .collect();
    let (cache, question) = (&cache, &question);
    thread::scope(|scope| {
        let asked = names.iter().zip(unlocked).map(|(name, unlocked)| {
            let work = move || {
                let (named, unlock) = unlocked?;
                let store = context.store_of(&named)?;
                question(name, Repository::open(store, &unlock, cache)?)
            };
            (name, scope.spawn(work))
        });
        // begun before the first is waited for
        let asked: Vec<_> = asked.collect();
        let answer = |(name, thread): (&String, thread::ScopedJoinHandle<'_, Result<T>>)| {
            let broken = |_| Err(Error::failed(format!("repository {name}: a thread broke off")));
            Answer { name: name.clone(), result: thread.join().unwrap_or_else(broken) }
        };
        asked.into_iter().map(answer).collect()
    })
}
