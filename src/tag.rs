//! Says something of snapshots afterwards: names, descriptions, tags and pins,
//! as marks. Forgetting is not done here.

use crate::format::notes::MarkKind;
use crate::id::SnapshotId;
use crate::repository::marks::{check_description, check_name, check_tag};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};

/// What to change; what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct TagOptions {
    pub add: Vec<String>,
    pub remove: Vec<String>,
    /// Empty takes the name away.
    pub name: Option<String>,
    /// Empty takes the description away.
    pub description: Option<String>,
    pub pin: Option<bool>,
}

/// Puts the marks that make `chosen` what `options` say; a snapshot that is so
/// already gets none. Which of them changed. `all` is every snapshot listed.
/// Nothing is put before everything was found to be allowed.
pub fn tag(
    repository: &Repository,
    all: &[Snapshot],
    chosen: &[&Snapshot],
    options: &TagOptions,
) -> Result<Vec<SnapshotId>> {
    check(options)?;
    for snapshot in chosen {
        require_right(repository, snapshot)?;
    }
    if let Some(name) = options.name.as_deref().filter(|name| !name.is_empty()) {
        let [snapshot] = chosen else {
            let message = format!("the name {name:?} is for one snapshot, not for several");
            return Err(Error::new(ErrorKind::Usage, message));
        };
        check_free(all, name, Some(snapshot.id))?;
    }
    let mut changed = Vec::new();
    for snapshot in chosen {
        let marks = marks(snapshot, options);
        if !marks.is_empty() {
            changed.push(snapshot.id);
        }
        for mark in marks {
            repository.put_mark(snapshot.id, mark, now_ms())?;
        }
    }
    Ok(changed)
}

/// Two snapshots of one name could not be told apart.
pub fn check_free(all: &[Snapshot], name: &str, except: Option<SnapshotId>) -> Result<()> {
    let has_it = |snapshot: &&Snapshot| has_name(snapshot, name) && Some(snapshot.id) != except;
    match all.iter().find(has_it) {
        None => Ok(()),
        Some(snapshot) => Err(Error::failed(format!(
            "snapshot {} has the name {name:?}: take it away with `esker tag {} --no-name` first",
            &snapshot.id.to_hex()[..8],
            &snapshot.id.to_hex()[..8],
        ))),
    }
}

/// A name that no snapshot has: this one, or with `-2`, `-3` and so on behind it.
pub fn free_name(all: &[Snapshot], name: String) -> String {
    let is_free = |name: &String| !all.iter().any(|snapshot| has_name(snapshot, name));
    if is_free(&name) {
        return name;
    }
    let numbered = (2_u64..).map(|number| format!("{name}-{number}"));
    numbered.into_iter().find(is_free).unwrap_or(name)
}

fn has_name(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.name.as_deref() == Some(name) && snapshot.forgotten.is_none()
}

fn check(options: &TagOptions) -> Result<()> {
    if let Some(name) = options.name.as_deref().filter(|name| !name.is_empty()) {
        check_name(name)?;
    }
    if let Some(text) = &options.description {
        check_description(text)?;
    }
    options.add.iter().try_for_each(|tag| check_tag(tag))?;
    match options.add.iter().find(|tag| options.remove.contains(tag)) {
        Some(tag) => {
            let message = format!("the tag {tag:?} cannot be added and removed at once");
            Err(Error::new(ErrorKind::Usage, message))
        }
        None => Ok(()),
    }
}

/// A maintainer may mark everything, who backs up only what is its own.
fn require_right(repository: &Repository, snapshot: &Snapshot) -> Result<()> {
    let keyring = repository.keyring();
    if keyring.role.may_maintain() {
        return repository.require_maintain();
    }
    let role = keyring.role.name();
    if !keyring.role.may_write() {
        return Err(Error::no_right(format!(
            "a {role} key cannot name, tag or pin snapshots: use a full, maintain or write key"
        )));
    }
    if snapshot.manifest.writer != keyring.writer {
        let (id, whose) =
            (snapshot.id.to_hex(), repository.trust().label(snapshot.manifest.writer));
        return Err(Error::no_right(format!(
            "a {role} key can name, tag and pin only its own snapshots, and {} is of {whose:?}: \
             use a full or maintain key",
            &id[..8]
        )));
    }
    match repository.update().forbids_writing() {
        Some(feature) => Err(Error::failed(format!(
            "the repository uses the feature {feature:?}: upgrade esker to write to it"
        ))),
        None => Ok(()),
    }
}

fn marks(snapshot: &Snapshot, options: &TagOptions) -> Vec<MarkKind> {
    let mut marks = Vec::new();
    let mut add: Vec<String> = Vec::new();
    for tag in &options.add {
        if !snapshot.tags.contains(tag) && !add.contains(tag) {
            add.push(tag.clone());
        }
    }
    let removed = |tag: &&String| snapshot.tags.contains(tag);
    let remove: Vec<String> = options.remove.iter().filter(removed).cloned().collect();
    if !add.is_empty() || !remove.is_empty() {
        marks.push(MarkKind::Tags { add, remove });
    }
    let is = |known: &Option<String>, wanted: &str| known.as_deref().unwrap_or_default() == wanted;
    if let Some(name) = options.name.as_ref().filter(|name| !is(&snapshot.name, name)) {
        marks.push(MarkKind::Name(name.clone()));
    }
    let described = |text: &&String| is(&snapshot.description, text);
    if let Some(text) = options.description.as_ref().filter(|text| !described(text)) {
        marks.push(MarkKind::Description(text.clone()));
    }
    if let Some(pin) = options.pin.filter(|pin| *pin != snapshot.pinned) {
        marks.push(MarkKind::Pin(pin));
    }
    marks
}
