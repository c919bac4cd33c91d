//! Writing back: nothing outside the target, everything the snapshot knows.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::{Told, is_root};
use crate::files::target::Unset;
use crate::files::{Existing, NodeKind, Owners, Target, WalkOptions};
use crate::format::entry::{EntryKind, Metadata, Timestamp};

/// Runs a test with and without `openat2`, each in a directory of its own.
fn both(test: impl Fn(&Target, &Path)) {
    for without in [false, true] {
        let base = tempfile::tempdir().unwrap();
        let target = Target::open(&base.path().join("new/target")).unwrap();
        let target = if without { target.without_openat2() } else { target };
        test(&target, base.path());
    }
}

fn metadata(mode: u32) -> Metadata {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mtime = Timestamp { seconds: -5, nanoseconds: 123_456_789 };
    Metadata { mode, uid, gid, mtime, ..Metadata::default() }
}

fn found(path: &Path) -> Metadata {
    let told =
        Told::of(&[path.to_owned()], &WalkOptions { read_xattrs: true, ..WalkOptions::default() });
    assert!(told.failed.is_empty());
    told.get(path).metadata.clone()
}

fn existing(target: &Target, path: &[u8]) -> Existing {
    target.stat(path).unwrap().expect("something lies there")
}

#[test]
fn paths_that_could_lead_away_are_refused() {
    both(|target, base| {
        let paths: [&[u8]; 9] =
            [b"..", b"a/../../x", b"/x", b"a//b", b"a/", b".", b"./x", b"a\0b", b""];
        for path in paths {
            assert!(target.create_file(path, true).is_err(), "{path:?}");
            assert!(target.make_directory(path, true).is_err(), "{path:?}");
            assert!(target.remove(path).is_err(), "{path:?}");
        }
        assert_eq!(fs::read_dir(base.join("new")).unwrap().count(), 1);
    });
}

#[test]
fn links_in_the_way_are_never_followed() {
    both(|target, base| {
        let outside = base.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "old").unwrap();
        let top = base.join("new/target");
        symlink(&outside, top.join("dir")).unwrap();
        symlink(outside.join("precious"), top.join("file")).unwrap();
        assert!(target.create_file(b"dir/precious", true).is_err());
        assert!(target.create_file(b"dir/new", false).is_err());
        assert!(target.make_directory(b"dir/sub", true).is_err());
        assert!(target.read_file(b"dir/precious").is_err());
        assert!(target.remove(b"dir/precious").is_err());
        assert!(target.list(b"dir").is_err());
        assert!(
            target
                .set_metadata(b"dir/precious", EntryKind::File, &metadata(0o777), Owners::default())
                .is_err()
        );
        assert!(
            target
                .set_metadata(b"file", EntryKind::File, &metadata(0o777), Owners::default())
                .is_err()
        );
        assert_eq!(target.stat(b"dir/precious").unwrap(), None);
        assert!(target.open_file(b"file").unwrap().is_none());
        assert!(target.read_file(b"file").is_err());
        assert!(target.create_file(b"file", false).is_err());
        target.create_file(b"file", true).unwrap().write_all(b"new").unwrap();
        assert!(target.make_directory(b"dir", false).is_err());
        assert!(target.make_directory(b"dir", true).unwrap());
        target.create_file(b"dir/precious", true).unwrap();
        target.symlink(b"again", outside.as_os_str().as_encoded_bytes(), false).unwrap();
        target.remove(b"again").unwrap();
        assert_eq!(fs::read(outside.join("precious")).unwrap(), b"old");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    });
}

#[test]
fn a_directory_swapped_for_a_link_is_not_followed_after_removal() {
    both(|target, base| {
        target.make_directory(b"d", false).unwrap();
        target.create_file(b"d/x", false).unwrap();
        target.remove(b"d").unwrap();
        symlink(base, base.join("new/target/d")).unwrap();
        assert!(target.create_file(b"d/x", false).is_err());
        assert!(!base.join("x").exists());
    });
}

#[test]
fn entries_of_every_kind() {
    both(|target, base| {
        let top = base.join("new/target");
        assert!(target.make_directory(b"d", false).unwrap());
        assert!(!target.make_directory(b"d", false).unwrap());
        target.create_file(b"d/file", false).unwrap().write_all(b"text").unwrap();
        target.hard_link(b"d/file", b"d/second", false).unwrap();
        target.hard_link(b"d/file", b"d/second", true).unwrap();
        assert_eq!(existing(target, b"d/second").links, 2);
        assert!(
            target.open_file(b"d/second").unwrap().is_none(),
            "hard links are not written in place"
        );
        target.create_file(b"d/second", true).unwrap().write_all(b"other").unwrap();
        assert_eq!(fs::read(top.join("d/file")).unwrap(), b"text");
        target.open_file(b"d/second").unwrap().unwrap().write_all_at(b"O", 0).unwrap();
        let mut text = String::new();
        target.read_file(b"d/second").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "Other");
        target.symlink(b"d/link", b"nowhere", false).unwrap();
        assert_eq!(target.read_link(b"d/link").unwrap(), b"nowhere");
        target.node(b"d/pipe", EntryKind::Fifo, None, false).unwrap();
        if is_root() {
            target.node(b"d/null", EntryKind::CharDevice, Some((1, 3)), false).unwrap();
            assert_eq!(existing(target, b"d/null").metadata.device, Some((1, 3)));
            target.remove(b"d/null").unwrap();
        }
        let listed = target.list(b"d").unwrap();
        let names: Vec<&[u8]> = listed.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(names, [b"file".as_slice(), b"link", b"pipe", b"second"]);
        assert_eq!(listed[1].1, NodeKind::Entry(EntryKind::Symlink));
        assert_eq!(
            target.list(b"").unwrap(),
            [(b"d".to_vec(), NodeKind::Entry(EntryKind::Directory))]
        );
        assert!(target.create_file(b"d", true).is_err(), "a filled directory is not replaced");
        target.remove(b"d").unwrap();
        target.remove(b"d").unwrap();
        assert_eq!(target.stat(b"d").unwrap(), None);
        target.make_directory(b"d", false).unwrap();
        target.create_file(b"d", true).unwrap();
        assert!(target.free_space().unwrap() > 0);
    });
}

#[test]
fn deeper_than_path_max() {
    both(|target, _| {
        let name = [b'n'; 200];
        let mut path = Vec::new();
        for level in 0..60 {
            if level > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            target.make_directory(&path, false).unwrap();
        }
        path.extend_from_slice(b"/file");
        target.create_file(&path, false).unwrap().write_all(b"deep").unwrap();
        // Without the handles that are at hand from making it.
        target.forget(&name);
        assert_eq!(existing(target, &path).metadata.size, 4);
        assert!(
            target
                .set_metadata(&path, EntryKind::File, &metadata(0o640), Owners::default())
                .unwrap()
                .is_empty()
        );
        target.remove(&name).unwrap();
    });
}

/// An ACL as the kernel stores it: owner rwx, user 1 r, group r-x, mask `mask`, others none.
fn acl(mask: u8) -> Vec<u8> {
    let mut raw = vec![2, 0, 0, 0];
    let entries: [(u8, u8, u32); 5] =
        [(1, 7, u32::MAX), (2, 4, 1), (4, 5, u32::MAX), (16, mask, u32::MAX), (32, 0, u32::MAX)];
    for (tag, rights, id) in entries {
        raw.extend_from_slice(&[tag, 0, rights, 0]);
        raw.extend_from_slice(&id.to_le_bytes());
    }
    raw
}

/// `cap_net_raw=ep`, revision 2.
fn capability() -> Vec<u8> {
    let mut raw = vec![1, 0, 0, 2, 0, 0x20, 0, 0];
    raw.resize(20, 0);
    raw
}

#[test]
fn metadata_makes_the_round_trip() {
    if !is_root() {
        return;
    }
    both(|target, base| {
        let top = base.join("new/target");
        let mut file = metadata(0o6750);
        (file.uid, file.gid) = (12345, 54321);
        file.size = 4;
        file.xattrs = vec![
            (b"security.capability".to_vec(), capability()),
            (b"system.posix_acl_access".to_vec(), acl(5)),
            (b"trusted.t".to_vec(), b"t".to_vec()),
            (b"user.empty".to_vec(), Vec::new()),
            (b"user.x".to_vec(), vec![0, 255, 1]),
        ];
        target.create_file(b"file", false).unwrap().write_all(b"text").unwrap();
        let opened = target.open_file(b"file").unwrap().unwrap();
        assert!(target.set_file_metadata(&opened, &file, Owners::default()).unwrap().is_empty());
        let same = |mut now: Metadata, then: &Metadata| {
            (now.inode, now.ctime) = (then.inode, then.ctime);
            (now.user, now.group) = (then.user.clone(), then.group.clone());
            assert_eq!(&now, then);
        };
        same(found(&top.join("file")), &file);

        let mut directory = metadata(0o3750);
        directory.xattrs = vec![
            (b"system.posix_acl_access".to_vec(), acl(5)),
            (b"system.posix_acl_default".to_vec(), acl(7)),
        ];
        target.make_directory(b"dir", false).unwrap();
        assert!(
            target
                .set_metadata(b"dir", EntryKind::Directory, &directory, Owners::default())
                .unwrap()
                .is_empty()
        );
        same(found(&top.join("dir")), &directory);

        // A file made there inherits an ACL that the snapshot does not have.
        let plain = metadata(0o604);
        target.create_file(b"dir/plain", false).unwrap();
        assert!(
            target
                .set_metadata(b"dir/plain", EntryKind::File, &plain, Owners::default())
                .unwrap()
                .is_empty()
        );
        same(found(&top.join("dir/plain")), &plain);
        assert!(
            target
                .set_metadata(
                    b"file",
                    EntryKind::File,
                    &Metadata { size: 4, ..plain.clone() },
                    Owners::default()
                )
                .unwrap()
                .is_empty()
        );
        same(
            found(&top.join("file")),
            &Metadata { size: 4, xattrs: vec![(b"trusted.t".to_vec(), b"t".to_vec())], ..plain },
        );
    });
}

#[test]
fn links_and_pipes_keep_their_own_metadata() {
    if !is_root() {
        return;
    }
    both(|target, base| {
        let top = base.join("new/target");
        fs::write(base.join("outside"), "").unwrap();
        let before = fs::metadata(base.join("outside")).unwrap();
        target
            .symlink(b"link", base.join("outside").as_os_str().as_encoded_bytes(), false)
            .unwrap();
        let mut link = metadata(0o777);
        (link.uid, link.gid) = (77, 78);
        link.xattrs = vec![(b"trusted.t".to_vec(), b"t".to_vec())];
        assert!(
            target
                .set_metadata(b"link", EntryKind::Symlink, &link, Owners::default())
                .unwrap()
                .is_empty()
        );
        let now = found(&top.join("link"));
        assert_eq!((now.uid, now.gid, now.mtime, now.xattrs), (77, 78, link.mtime, link.xattrs));
        let after = fs::metadata(base.join("outside")).unwrap();
        assert_eq!(
            (after.uid(), after.mtime(), after.mode()),
            (before.uid(), before.mtime(), before.mode())
        );
        target.node(b"pipe", EntryKind::Fifo, None, false).unwrap();
        assert!(
            target
                .set_metadata(b"pipe", EntryKind::Fifo, &metadata(0o620), Owners::default())
                .unwrap()
                .is_empty()
        );
        assert_eq!(found(&top.join("pipe")).mode, 0o620);
    });
}

#[test]
fn owners_by_name_by_number_or_not_at_all() {
    if !is_root() {
        return;
    }
    both(|target, base| {
        let path = base.join("new/target/file");
        target.create_file(b"file", false).unwrap();
        let wanted = Metadata {
            uid: 4242,
            gid: 4243,
            user: b"daemon".to_vec().into(),
            group: b"no such group".to_vec().into(),
            ..metadata(0o4755)
        };
        let set = |owners| target.set_metadata(b"file", EntryKind::File, &wanted, owners).unwrap();
        assert!(matches!(set(Owners { skip: true, ..Owners::default() })[..], [Unset::SetId]));
        assert_eq!(found(&path).mode, 0o755, "a set-user-id file must not become root's");
        assert!(set(Owners::default()).is_empty());
        assert_eq!(found(&path).user[..], *b"daemon");
        assert_eq!((found(&path).gid, found(&path).mode), (4243, 0o4755));
        assert!(set(Owners { numeric: true, ..Owners::default() }).is_empty());
        assert_eq!((found(&path).uid, found(&path).gid), (4242, 4243));
    });
}

#[test]
fn what_cannot_be_set_is_said_and_the_rest_is_set() {
    both(|target, base| {
        target.create_file(b"file", false).unwrap();
        let mut wanted = metadata(0o640);
        wanted.xattrs = vec![(b"nonsense".to_vec(), b"1".to_vec())];
        let unset =
            target.set_metadata(b"file", EntryKind::File, &wanted, Owners::default()).unwrap();
        assert!(matches!(&unset[..], [Unset::Xattr(name, _)] if name == b"nonsense"));
        let now = fs::metadata(base.join("new/target/file")).unwrap();
        assert_eq!((now.permissions().mode() & 0o7777, now.mtime()), (0o640, -5));
        wanted.mtime.nanoseconds = 2_000_000_000;
        let unset =
            target.set_metadata(b"file", EntryKind::File, &wanted, Owners::default()).unwrap();
        assert!(matches!(&unset[..], [Unset::Xattr(..), Unset::Times(_)]));
    });
}
