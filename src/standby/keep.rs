//! What a standby keeps for itself: paths that no restore writes or deletes, with all
//! beneath them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::files::Rules;
use crate::format::entry::{EntryKind, display_key, is_of_path, key_of_path};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// Where `esker schedule install` puts what starts the standby.
const SCHEDULE: [&str; 4] = [
    "/etc/systemd/system/esker-*",
    "/etc/systemd/system/*.wants/esker-*",
    "/etc/cron.d/esker-*",
    "**/.config/systemd/user/**/esker-*",
];

#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Paths of this machine.
    paths: Vec<PathBuf>,
}

impl Keep {
    /// What `target` keeps: `wanted` are paths of the target as its owner wrote them,
    /// `own` files of this program wherever they lie.
    pub fn new(target: &Path, wanted: &[PathBuf], own: &[PathBuf]) -> Keep {
        let beneath = |path: &PathBuf| match path.starts_with(target) {
            true => path.clone(),
            false => target.join(path.strip_prefix("/").unwrap_or(path)),
        };
        let mut paths: Vec<PathBuf> = wanted.iter().map(beneath).chain(own.to_vec()).collect();
        // what a link leads to is meant as well
        let real: Vec<PathBuf> = paths.iter().filter_map(|path| path.canonicalize().ok()).collect();
        paths.extend(real);
        paths.sort_unstable();
        paths.dedup();
        Keep { paths }
    }

    /// Patterns that leave out of a restore what is kept: of what lies at `key`, or of
    /// everything, into the directory `to`.
    pub fn rules(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        key: Option<&[u8]>,
        to: &Path,
    ) -> Result<Rules> {
        let real = to.canonicalize().unwrap_or_else(|_| to.to_owned());
        let base = match key {
            None => PathBuf::from("/"),
            Some(key) if is_of_path(key) => PathBuf::from(OsStr::from_bytes(&display_key(key))),
            Some(key) => {
                let path: Vec<u8> =
                    key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
                Path::new("/").join(OsStr::from_bytes(&path))
            }
        };
        let mut patterns = Vec::new();
        for path in &self.paths {
            let inside = path.strip_prefix(to).or_else(|_| path.strip_prefix(&real));
            let Ok(inside) = inside else { continue };
            if inside.as_os_str().is_empty() {
                let path = path.display();
                let message =
                    format!("keep: {path} is where everything goes: nothing is left to restore");
                return Err(Error::new(ErrorKind::Usage, message));
            }
            let stored = base.join(inside);
            patterns.push(pattern(&stored)?);
            if key.is_none_or(is_of_path) {
                patterns.extend(in_the_way(repository, snapshot, &stored)?);
            }
        }
        if key.is_none() && to == Path::new("/") {
            patterns.extend(SCHEDULE.map(str::to_owned));
        }
        let rules = Rules::new(&patterns, &[]);
        rules.map_err(|error| Error::new(ErrorKind::Usage, format!("keep: {error}")))
    }
}

/// A pattern for something above a kept path that is no directory in the snapshot: put
/// there, it would take the place of what is kept.
fn in_the_way(repository: &Repository, snapshot: &Snapshot, kept: &Path) -> Result<Option<String>> {
    let tree = repository.private_part(snapshot)?.tree;
    for above in kept.ancestors().skip(1).filter(|above| *above != Path::new("/")) {
        let key = key_of_path(above.as_os_str().as_bytes());
        let entry = repository.find_entry(tree, &key)?;
        if entry.is_some_and(|entry| entry.kind != EntryKind::Directory) {
            return pattern(above).map(Some);
        }
    }
    Ok(None)
}

/// A pattern that matches this path and nothing else.
fn pattern(path: &Path) -> Result<String> {
    let wrong = |what: &str| {
        let message = format!("keep: {}: {what}", path.display());
        Error::new(ErrorKind::Usage, message)
    };
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(wrong("a path without .. is needed"));
    }
    let text = path.to_str().ok_or_else(|| wrong("its name is not UTF-8"))?;
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '/' | '-' | '_' | '.') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_its_path_and_nothing_else() {
        for path in
            ["/a b/c*", "/x/[1]", "/x/{a,b}", "/x/!y", "/#z", "/back\\slash", "/end ", "/ü?"]
        {
            let rules = Rules::new(&[pattern(Path::new(path)).unwrap()], &[]).unwrap();
            assert!(rules.exclude(path.as_bytes(), false), "{path}");
            assert!(!rules.exclude(b"/a b/cd", false), "{path}");
            assert!(!rules.exclude(b"/x/1", false) && !rules.exclude(b"/x/a", false), "{path}");
            let deeper = format!("/deeper{path}");
            assert!(!rules.exclude(deeper.as_bytes(), false), "{path}");
        }
        assert!(pattern(Path::new("/a/../b")).is_err());
    }

    #[test]
    fn kept_paths_are_those_of_the_target() {
        let keep = Keep::new(
            Path::new("/srv/standby"),
            &["/srv/standby/etc/a".into(), "/etc/b".into(), "etc/c".into()],
            &["/etc/esker".into()],
        );
        let expected = ["/srv/standby/etc/a", "/srv/standby/etc/b", "/srv/standby/etc/c"];
        assert!(expected.iter().all(|path| keep.paths.contains(&PathBuf::from(path))));
        assert!(keep.paths.contains(&PathBuf::from("/etc/esker")));
    }
}
