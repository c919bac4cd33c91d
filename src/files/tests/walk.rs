//! The walk: order, roots, what is left out and why, the awkward cases.

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::{Told, bytes, deep_chain, is_root};
use crate::files::{LeftOut, RootOptions, Rules, WalkOptions, absolute, walk};
use crate::format::entry::EntryKind;

/// A directory with these files (a trailing slash makes a directory).
fn tree(paths: &[&str]) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    for path in paths {
        let full = base.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, path).unwrap();
        }
    }
    base
}

fn check(paths: &[&str], roots: &[&str], expected: &[&str]) {
    let base = tree(paths);
    let roots: Vec<PathBuf> = roots.iter().map(|root| base.path().join(root)).collect();
    let told = Told::of(&roots, &WalkOptions::default());
    assert_eq!(told.below(base.path()), expected);
    assert_eq!(told.found[0].path, b"/");
    let keys: Vec<Vec<u8>> = told.found.iter().map(|found| key(&found.path)).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "sorted, each path once");
    assert!(told.failed.is_empty());
}

fn key(path: &[u8]) -> Vec<u8> {
    let path = if path == b"/" { b"" } else { path };
    path.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect()
}

fn rules(patterns: &[&str]) -> Rules {
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    Rules::new(&patterns, &[]).unwrap()
}

#[test]
fn order_is_that_of_the_tree() {
    check(&["a/z", "a-b", "a!", "a/b/c"], &[""], &["/a", "/a/b", "/a/b/c", "/a/z", "/a!", "/a-b"]);
}

#[test]
fn roots_merge_into_one_stream() {
    let paths = ["a/x/1", "a/y/2", "a/z/3", "b/4"];
    check(&paths, &["a/y", "a/x"], &[">/a", "/a/x", "/a/x/1", "/a/y", "/a/y/2"]);
    check(
        &paths,
        &["a/x/1", "a", "a", "a/x"],
        &["/a", "/a/x", "/a/x/1", "/a/y", "/a/y/2", "/a/z", "/a/z/3"],
    );
    check(&paths, &["b/4"], &[">/b", "/b/4"]);
}

#[test]
fn parents_are_told_once_and_marked() {
    let base = tree(&["a/x"]);
    let told = Told::of(&[base.path().join("a/x")], &WalkOptions::default());
    assert!(told.found[0].implied_parent && told.get(&base.path().join("a")).implied_parent);
    assert!(!told.get(&base.path().join("a/x")).implied_parent);
    assert!(told.get(&base.path().join("a")).metadata.mtime.seconds > 0);
}

#[test]
fn missing_roots_are_named() {
    let base = tree(&["a/file"]);
    let missing = [
        base.path().join("a/none"),
        base.path().join("none/deep"),
        base.path().join("a/file/x"),
        base.path().join("a"),
    ];
    let mut told = Told::of(&missing, &WalkOptions::default());
    told.failed.sort_by_key(|(_, root)| *root);
    assert_eq!(
        told.failed.iter().map(|(_, root)| *root).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2)]
    );
    assert_eq!(told.below(base.path()), ["/a", "/a/file"]);
}

#[test]
fn attributes_of_files_links_and_linked_parents() {
    let base = tree(&["real/x", "real/y", "real/z/"]);
    let path = |name: &str| base.path().join(name);
    symlink("real", path("link")).unwrap();
    for name in ["real", "real/y", "real/z"] {
        rustix::fs::setxattr(
            path(name),
            "user.n",
            name.as_bytes(),
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
    }
    let options = WalkOptions { read_xattrs: true, ..WalkOptions::default() };
    let told = Told::of(&[path("link/x"), path("real")], &options);
    let value =
        |name: &str| told.get(&path(name)).metadata.xattrs.first().map(|(_, value)| value.clone());
    assert_eq!(value("link").as_deref(), Some(b"real".as_slice()));
    assert_eq!(value("link/x"), None);
    assert_eq!(value("real/x"), None);
    assert_eq!(value("real/y").as_deref(), Some(b"real/y".as_slice()));
    assert_eq!(value("real/z").as_deref(), Some(b"real/z".as_slice()));
    assert!(
        Told::of(&[path("real")], &WalkOptions::default())
            .found
            .iter()
            .all(|found| found.metadata.xattrs.is_empty())
    );
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_goes_on() {
    if is_root() {
        return;
    }
    let base = tree(&["closed/x", "open/y"]);
    let set = |mode| {
        fs::set_permissions(
            base.path().join("closed"),
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        )
    };
    set(0o000).unwrap();
    let told =
        Told::of(&[base.path().to_owned(), base.path().join("closed/x")], &WalkOptions::default());
    set(0o700).unwrap();
    assert_eq!(told.below(base.path()), ["/closed", "/open", "/open/y"]);
    let closed = bytes(&base.path().join("closed"));
    assert_eq!(told.failed, [(closed.clone(), None), ([closed, b"/x".to_vec()].concat(), Some(1))]);
}

#[test]
fn links_at_and_above_roots() {
    let base = tree(&["real/x", "real/y"]);
    symlink("real", base.path().join("link")).unwrap();
    let told = Told::of(&[base.path().join("link/x")], &WalkOptions::default());
    assert_eq!(told.below(base.path()), [">/link", "/link/x"]);
    assert_eq!(told.get(&base.path().join("link")).kind, EntryKind::Directory);
    let told =
        Told::of(&[base.path().join("link"), base.path().join("link/x")], &WalkOptions::default());
    assert_eq!(told.below(base.path()), ["/link"]);
    assert_eq!(told.get(&base.path().join("link")).metadata.target, b"real");
    assert_eq!(told.failed.len(), 1);
    assert_eq!(told.failed[0].1, Some(1));
}

#[test]
fn every_kind_and_odd_names() {
    let base = tree(&["dir/", "file"]);
    let path = |name: &str| base.path().join(name);
    symlink(OsStr::from_bytes(b"to\xff"), path("symlink")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), rustix::fs::Mode::RUSR).unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    fs::write(base.path().join(OsStr::from_bytes(b"\xff\xfe\n")), "").unwrap();
    fs::hard_link(path("file"), path("file2")).unwrap();
    if is_root() {
        let mode = rustix::fs::Mode::RUSR;
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, path("null"), kind, mode, rustix::fs::makedev(1, 3))
            .unwrap();
    }
    let told = Told::of(
        &[base.path().to_owned()],
        &WalkOptions { read_xattrs: true, ..WalkOptions::default() },
    );
    assert_eq!(told.get(&path("dir")).kind, EntryKind::Directory);
    assert_eq!(told.get(&path("fifo")).kind, EntryKind::Fifo);
    assert_eq!(told.get(&path("symlink")).metadata.target, b"to\xff");
    assert_eq!(told.get(&path("symlink")).metadata.size, 0);
    assert_eq!(told.get(&path("file")).links, 2);
    assert_eq!(told.get(&path("file")).metadata.inode, told.get(&path("file2")).metadata.inode);
    assert_eq!(told.get(&path("file")).metadata.size, 4);
    assert_eq!(told.why(&path("socket")), Some(LeftOut::Socket));
    assert!(told.found.iter().any(|found| found.path.ends_with(b"/\xff\xfe\n")));
    if is_root() {
        assert_eq!(told.get(&path("null")).metadata.device, Some((1, 3)));
        assert_eq!(told.get(&path("null")).metadata.user[..], *b"root");
    }
}

#[test]
fn rules_leave_out_and_tell_what_was_of_no_use() {
    let base = tree(&["a/keep.o", "a/x.o", "a/x.c", "tmp/1", "sub/cache/1", "sub/x/cache/2"]);
    let absolute_tmp = format!("{}/tmp", base.path().display());
    let patterns = ["*.o", "!keep.o", &absolute_tmp, "sub/cache", "nothing", "x.*"];
    let options = WalkOptions {
        rules: Some(rules(&patterns).into()),
        report_excluded: true,
        ..WalkOptions::default()
    };
    let told = Told::of(&[base.path().to_owned()], &options);
    assert_eq!(
        told.below(base.path()),
        ["/a", "/a/keep.o", "/sub", "/sub/x", "/sub/x/cache", "/sub/x/cache/2"]
    );
    assert_eq!(told.counts.excluded, 4);
    assert_eq!(told.why(&base.path().join("tmp")), Some(LeftOut::Excluded));
    assert_eq!(options.rules.unwrap().unused(), ["nothing"]);
}

#[test]
fn rules_and_roots() {
    let base = tree(&["a/b/c", "a/b/d", "x"]);
    let patterns = ["b", "x"];
    let options = WalkOptions { rules: Some(rules(&patterns).into()), ..WalkOptions::default() };
    // A root inside an excluded directory is walked, and so is one that a rule names.
    let told = Told::of(
        &[base.path().join("a"), base.path().join("a/b/c"), base.path().join("x")],
        &options,
    );
    assert_eq!(told.below(base.path()), ["/a", ">/a/b", "/a/b/c", "/x"]);
    let told = Told::of(&[base.path().join("a/b")], &options);
    assert_eq!(told.below(base.path()), [">/a", "/a/b", "/a/b/c", "/a/b/d"]);
    // The way to a root is not subject to rules.
    let told = Told::of(&[base.path().join("a/b/d")], &options);
    assert_eq!(told.below(base.path()), [">/a", ">/a/b", "/a/b/d"]);
}

/// The rules of one source once left out what another source had named, and all beneath it.
#[test]
fn the_rules_of_the_nearest_root_count() {
    let base = tree(&["a/b/c.o", "a/b/tmp/1", "a/c.o", "a/tmp/1", "tmp/c.o", "tmp/tmp/x"]);
    let path = |name: &str| base.path().join(name);
    let own = |root: PathBuf, patterns: &[&str]| {
        (root, RootOptions { rules: Some(rules(patterns).into()), ..RootOptions::default() })
    };
    let options = WalkOptions {
        of_roots: vec![own(base.path().to_owned(), &["tmp"]), own(path("a/b"), &["*.o"])],
        rules: Some(rules(&["x"]).into()),
        ..WalkOptions::default()
    };
    let told = Told::of(&[base.path().to_owned(), path("a/b"), path("tmp")], &options);
    let beneath_b = ["/a/b", "/a/b/tmp", "/a/b/tmp/1"];
    let rest = ["/a/c.o", "/tmp", "/tmp/c.o", "/tmp/tmp"];
    assert_eq!(told.below(base.path()), [&["/a"][..], &beneath_b[..], &rest[..]].concat());
    // of a root that is named twice only that is left out which both leave out
    let options = WalkOptions {
        of_roots: vec![own(path("a"), &["*.o"]), own(path("a"), &["tmp", "a/c.o"])],
        ..WalkOptions::default()
    };
    let told = Told::of(&[path("a"), path("a")], &options);
    let expected = ["/a", "/a/b", "/a/b/c.o", "/a/b/tmp", "/a/b/tmp/1", "/a/tmp", "/a/tmp/1"];
    assert_eq!(told.below(base.path()), expected);
}

#[test]
fn rules_match_names_that_are_not_utf8() {
    let base = tree(&["a"]);
    fs::write(base.path().join(OsStr::from_bytes(b"\xffx.tmp")), "").unwrap();
    fs::write(base.path().join(OsStr::from_bytes(b"y\xff")), "").unwrap();
    let options =
        WalkOptions { rules: Some(rules(&["*.tmp", "y?"]).into()), ..WalkOptions::default() };
    let told = Told::of(&[base.path().to_owned()], &options);
    assert_eq!(told.below(base.path()), ["/a"]);
}

#[test]
fn wrong_rules_are_refused_with_their_origin() {
    let base = tree(&[]);
    let file = base.path().join("excludes");
    fs::write(&file, "# fine\n\n*.o\n[a-\n").unwrap();
    let error = Rules::new(&[], std::slice::from_ref(&file)).unwrap_err().to_string();
    assert!(error.contains("excludes line 4") && error.contains("[a-"), "{error}");
    fs::write(&file, b"ok\n\xff\n").unwrap();
    assert!(
        Rules::new(&[], std::slice::from_ref(&file)).unwrap_err().to_string().contains("line 2")
    );
    assert!(Rules::new(&[String::new()], &[]).is_err());
    assert!(Rules::new(&[], &[base.path().join("none")]).is_err());
    assert!(rules(&["#x"]).exclude(b"/a/#x", false));
}

#[test]
fn caches_large_files_and_own_places() {
    let base = tree(&["cache/junk", "fake/junk", "big", "small", "repo/data", "in/repo/data"]);
    let path = |name: &str| base.path().join(name);
    fs::write(path("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\nmore")
        .unwrap();
    fs::write(path("fake/CACHEDIR.TAG"), "no").unwrap();
    fs::write(path("big"), vec![0; 100]).unwrap();
    symlink("repo", path("alias")).unwrap();
    let options = WalkOptions {
        exclude_caches: true,
        exclude_larger_than: Some(99),
        leave_out: vec![path("alias")],
        ..WalkOptions::default()
    };
    let told = Told::of(&[base.path().to_owned()], &options);
    let expected = [
        "/alias",
        "/cache",
        "/cache/CACHEDIR.TAG",
        "/fake",
        "/fake/CACHEDIR.TAG",
        "/fake/junk",
        "/in",
        "/in/repo",
        "/in/repo/data",
        "/small",
    ];
    assert_eq!(told.below(base.path()), expected);
    assert_eq!(told.why(&path("repo")), Some(LeftOut::OwnRepository));
    assert_eq!(told.why(&path("big")), Some(LeftOut::TooLarge));
    assert_eq!(Told::of(&[path("big")], &options).below(base.path()), ["/big"]);
    assert_eq!(told.why(&path("cache")), Some(LeftOut::CacheDirectory));
}

#[test]
fn other_file_systems_are_left_out_unless_they_are_roots() {
    let base = tree(&["mount/", "x"]);
    let mount = base.path().join("mount");
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mount).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return;
    }
    fs::write(mount.join("inside"), "").unwrap();
    let options = WalkOptions { one_file_system: true, ..WalkOptions::default() };
    let alone = Told::of(&[base.path().to_owned()], &options);
    let both = Told::of(&[base.path().to_owned(), mount.clone()], &options);
    let within = Told::of(&[base.path().to_owned(), mount.join("inside")], &options);
    std::process::Command::new("umount").arg(&mount).status().unwrap();
    assert_eq!(alone.below(base.path()), ["/mount", "/x"]);
    assert_eq!(alone.why(&mount), Some(LeftOut::OtherFileSystem));
    assert_eq!(both.below(base.path()), ["/mount", "/mount/inside", "/x"]);
    assert_eq!(within.below(base.path()), ["/mount", "/mount/inside", "/x"]);
    assert_ne!(both.get(&mount).device_id, both.get(base.path()).device_id);
}

/// Options of roots that stay on their file system, or do not.
fn staying(roots: &[(&Path, bool)]) -> WalkOptions {
    let own = |(root, one_file_system): &(&Path, bool)| {
        (root.to_path_buf(), RootOptions { one_file_system: *one_file_system, rules: None })
    };
    WalkOptions { of_roots: roots.iter().map(own).collect(), ..WalkOptions::default() }
}

/// One root that stays on its file system once kept all the others on theirs.
#[test]
fn each_root_says_for_itself_whether_it_stays_on_its_file_system() {
    let base = tree(&["other/", "srv/data/", "x"]);
    let path = |name: &str| base.path().join(name);
    let mounts = [path("other"), path("srv/data")];
    for mount in &mounts {
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(mount).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            return;
        }
        fs::write(mount.join("inside"), "").unwrap();
    }
    let srv = path("srv");
    let of = |first: bool, second: bool| {
        let options = staying(&[(base.path(), first), (&srv, second)]);
        Told::of(&[base.path().to_owned(), srv.clone()], &options)
    };
    let (outer, inner) = (of(true, false), of(false, true));
    let twice = Told::of(
        &[base.path().to_owned(), base.path().to_owned()],
        &staying(&[(base.path(), true), (base.path(), false)]),
    );
    for mount in &mounts {
        std::process::Command::new("umount").arg(mount).status().unwrap();
    }
    let whole = ["/other", "/other/inside", "/srv", "/srv/data", "/srv/data/inside", "/x"];
    let without =
        |path: &str| -> Vec<&str> { whole.iter().filter(|name| **name != path).copied().collect() };
    assert_eq!(outer.below(base.path()), without("/other/inside"));
    assert_eq!(outer.left_out, [(bytes(&mounts[0]), LeftOut::OtherFileSystem)]);
    assert_eq!(inner.below(base.path()), without("/srv/data/inside"));
    assert_eq!(inner.left_out, [(bytes(&mounts[1]), LeftOut::OtherFileSystem)]);
    assert_eq!(twice.below(base.path()), whole);
    assert!(twice.left_out.is_empty());
}

#[test]
fn deeper_than_path_max_and_than_open_handles() {
    let base = tempfile::tempdir().unwrap();
    let file = deep_chain(base.path(), 300);
    fs::write(base.path().join("z"), "").unwrap();
    let told = Told::of(
        &[base.path().to_owned()],
        &WalkOptions { read_xattrs: true, ..WalkOptions::default() },
    );
    assert!(told.failed.is_empty());
    assert_eq!(told.below(base.path()).len(), 302);
    assert!(told.found[told.found.len() - 2].path.ends_with(&file));
    // Its siblings on the way up are found after the handles were reopened.
    assert!(told.found.last().unwrap().path.ends_with(b"/z"));
    crate::files::Target::open(base.path()).unwrap().remove(&file[..100]).unwrap();
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
}

#[test]
fn longer_than_the_limit_is_a_failure_and_the_rest_goes_on() {
    let base = tempfile::tempdir().unwrap();
    deep_chain(base.path(), 650);
    fs::write(base.path().join("z"), "").unwrap();
    let told = Told::of(&[base.path().to_owned()], &WalkOptions::default());
    assert_eq!(told.failed.len(), 1);
    assert!(told.found.last().unwrap().path.ends_with(b"/z"));
    crate::files::Target::open(base.path()).unwrap().remove(&[b'd'; 100]).unwrap();
}

#[test]
fn a_hundred_thousand_names() {
    let base = tempfile::tempdir().unwrap();
    for number in 0..100_000 {
        fs::File::create(base.path().join(number.to_string())).unwrap();
    }
    let mut last = Vec::new();
    let mut count = 0;
    walk(&[base.path().to_owned()], &WalkOptions::default(), &mut |item| {
        let crate::files::Item::Found(found) = item else { panic!("all can be read") };
        assert!(key(&found.path) > last || count == 0);
        last = key(&found.path);
        count += 1;
        ControlFlow::Continue(())
    });
    assert!(count > 100_000);
}

#[test]
fn visit_can_break_off() {
    let mut count = 0;
    walk(&[PathBuf::from("/usr/lib")], &WalkOptions::default(), &mut |_| {
        count += 1;
        if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(count, 3);
    walk(&[], &WalkOptions::default(), &mut |_| panic!("nothing to tell"));
}

#[test]
fn absolute_paths_by_spelling() {
    let check = |path: &str, expected: &str| {
        assert_eq!(absolute(Path::new(path), Path::new("/home/u")), Path::new(expected))
    };
    check("x", "/home/u/x");
    check("../x/./y//z/", "/home/x/y/z");
    check("/../..", "/");
    check("/a/b/..", "/a");
    assert_eq!(bytes(&absolute(Path::new("."), Path::new("/"))), b"/");
}
