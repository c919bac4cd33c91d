//! User and group names and numbers, both ways, each asked for once. The
//! system's own name service answers (files, LDAP, whatever is configured).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::format::entry::Name;

/// How a restore chooses owners.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owners {
    /// Use the stored numbers even where the stored names exist here.
    pub numeric: bool,
    /// Leave owners as the system gave them.
    pub skip: bool,
}

/// Names of numbers.
#[derive(Default)]
pub(crate) struct OwnerNames {
    users: HashMap<u32, Name>,
    groups: HashMap<u32, Name>,
}

impl OwnerNames {
    /// The user's name, empty if the system knows none.
    pub fn user(&mut self, uid: u32) -> Name {
        let look_up = || uzers::get_user_by_uid(uid).map(|user| user.name().as_bytes().into());
        self.users.entry(uid).or_insert_with(|| look_up().unwrap_or_default()).clone()
    }

    /// The group's name, empty if the system knows none.
    pub fn group(&mut self, gid: u32) -> Name {
        let look_up = || uzers::get_group_by_gid(gid).map(|group| group.name().as_bytes().into());
        self.groups.entry(gid).or_insert_with(|| look_up().unwrap_or_default()).clone()
    }
}

/// Numbers of names.
#[derive(Debug, Default)]
pub(crate) struct OwnerNumbers {
    users: HashMap<Vec<u8>, Option<u32>>,
    groups: HashMap<Vec<u8>, Option<u32>>,
}

impl OwnerNumbers {
    /// The number of the user named so on this system.
    pub fn user(&mut self, name: &[u8]) -> Option<u32> {
        if let Some(known) = self.users.get(name) {
            return *known;
        }
        let number = uzers::get_user_by_name(OsStr::from_bytes(name)).map(|user| user.uid());
        self.users.insert(name.to_vec(), number);
        number
    }

    /// The number of the group named so on this system.
    pub fn group(&mut self, name: &[u8]) -> Option<u32> {
        if let Some(known) = self.groups.get(name) {
            return *known;
        }
        let number = uzers::get_group_by_name(OsStr::from_bytes(name)).map(|group| group.gid());
        self.groups.insert(name.to_vec(), number);
        number
    }
}
