//! What a run says of its sources: opaque labels, file systems, hard links.

use std::collections::HashMap;

use crate::files::Found;
use crate::format::entry::EntryKind;

/// Numbers file systems as they are met, and says where one begins.
pub struct FileSystems {
    mounts: HashMap<u64, Vec<u8>>,
    table: Vec<Vec<u8>>,
    by_device: HashMap<(u64, u64), u32>,
    /// Path length and file system of the directories above.
    above: Vec<(usize, u32)>,
}

impl FileSystems {
    pub fn new() -> Self {
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        FileSystems {
            mounts: parse_mounts(&mounts),
            table: Vec::new(),
            by_device: HashMap::new(),
            above: Vec::new(),
        }
    }

    /// The index of the entry's file system where it is not its directory's.
    pub fn index_if_changed(&mut self, found: &Found) -> Option<u32> {
        let index = self.index(found);
        let depth = if found.path == b"/" { 0 } else { found.path.len() };
        while self.above.last().is_some_and(|(length, _)| *length >= depth.max(1)) {
            self.above.pop();
        }
        // directories above are those whose path is a prefix; the walk is depth
        // first, so whatever was pushed and not popped is one
        while let Some((length, _)) = self.above.last() {
            let is_above = *length <= 1 || found.path.get(*length) == Some(&b'/');
            if is_above {
                break;
            }
            self.above.pop();
        }
        let differs = self.above.last().is_none_or(|(_, above)| *above != index);
        if found.kind == EntryKind::Directory {
            self.above.push((depth, index));
        }
        differs.then_some(index)
    }

    fn index(&mut self, found: &Found) -> u32 {
        let name = (found.device_id, found.mount_id);
        if let Some(index) = self.by_device.get(&name) {
            return *index;
        }
        let source = self.mounts.get(&found.mount_id).cloned().unwrap_or_default();
        let index = match self.table.iter().position(|known| *known == source) {
            Some(at) => at as u32,
            None => {
                self.table.push(source);
                self.table.len() as u32 - 1
            }
        };
        self.by_device.insert(name, index);
        index
    }

    pub fn table(self) -> Vec<Vec<u8>> {
        self.table
    }
}

/// Mount number → `type source` of each line of a mountinfo file.
fn parse_mounts(text: &[u8]) -> HashMap<u64, Vec<u8>> {
    let mut mounts = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let number = fields.next().and_then(|f| std::str::from_utf8(f).ok()?.parse().ok());
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        if let (Some(number), Some(kind), Some(source)) = (number, rest.next(), rest.next()) {
            mounts.insert(number, [kind, b" ", source].concat());
        }
    }
    mounts
}

/// Numbers groups of hard links: by inode, unless another file system has the
/// same one.
#[derive(Default)]
pub struct LinkGroups {
    groups: HashMap<(u64, u64), u64>,
    taken: HashMap<u64, (u64, u64)>,
}

impl LinkGroups {
    pub fn group(&mut self, found: &Found) -> u64 {
        if found.links < 2 || found.kind == EntryKind::Directory {
            return 0;
        }
        let name = (found.device_id, found.metadata.inode);
        if let Some(group) = self.groups.get(&name) {
            return *group;
        }
        let mut group = found.metadata.inode.max(1);
        while self.taken.get(&group).is_some_and(|other| *other != name) {
            group = group.wrapping_add(1 << 40).max(1);
        }
        self.taken.insert(group, name);
        self.groups.insert(name, group);
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Metadata;

    fn found(path: &str, kind: EntryKind, device: u64) -> Found {
        Found {
            path: path.as_bytes().to_vec(),
            kind,
            metadata: Metadata::default(),
            links: 1,
            device_id: device,
            mount_id: device,
            implied_parent: false,
        }
    }

    #[test]
    fn a_file_system_is_named_only_where_it_begins() {
        let mut filesystems = FileSystems::new();
        filesystems.mounts = HashMap::from([(1, b"ext4 a".to_vec()), (2, b"xfs b".to_vec())]);
        use EntryKind::{Directory, File};
        for (path, kind, device, expect) in [
            ("/", Directory, 1, Some(0)),
            ("/a", Directory, 1, None),
            ("/a/f", File, 1, None),
            ("/mnt", Directory, 2, Some(1)),
            ("/mnt/f", File, 2, None),
            ("/mnt2", File, 1, None),
            ("/z", File, 2, Some(1)),
        ] {
            let index = filesystems.index_if_changed(&found(path, kind, device));
            assert_eq!(index, expect, "{path}");
        }
        assert_eq!(filesystems.table(), [b"ext4 a".to_vec(), b"xfs b".to_vec()]);
    }
}
