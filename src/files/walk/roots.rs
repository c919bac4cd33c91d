//! The roots of a walk as one tree of wanted names, so that overlapping and
//! repeated roots become one sorted stream.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::{RootOptions, WalkOptions};

/// A place on the way to a root, or a root itself.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Numbers of the roots that end here; more than one if a root was given twice.
    pub roots: Vec<usize>,
    /// Those of their own that these roots have.
    pub options: Vec<RootOptions>,
    pub below: BTreeMap<Vec<u8>, Wanted>,
}

impl Wanted {
    pub fn new(roots: &[PathBuf], options: &WalkOptions) -> Wanted {
        let mut top = Wanted::default();
        for (number, root) in roots.iter().enumerate() {
            let mut place = &mut top;
            for name in names(root) {
                place = place.below.entry(name.to_vec()).or_default();
            }
            place.roots.push(number);
        }
        for (root, own) in &options.of_roots {
            let place = names(root).try_fold(&mut top, |place, name| place.below.get_mut(name));
            if let Some(place) = place {
                place.options.push(own.clone());
            }
        }
        top
    }

    /// The numbers of all roots at or beneath this place, the nearest first.
    pub fn all_roots(&self) -> Vec<usize> {
        let mut numbers = Vec::new();
        let mut left = vec![self];
        while let Some(place) = left.pop() {
            numbers.extend_from_slice(&place.roots);
            left.extend(place.below.values().rev());
        }
        numbers
    }
}

fn names(path: &Path) -> impl Iterator<Item = &[u8]> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    })
}

/// Makes a path absolute beneath `cwd` and removes `.` and `..` by their
/// spelling alone: no link is resolved, nothing is asked of the system.
pub fn absolute(path: &Path, cwd: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for component in cwd.join(path).components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    result
}
