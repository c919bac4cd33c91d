//! Tar streams whose members become entries.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use esker::format::entry::EntryKind;

use crate::memory::{Memory, capture, fails};

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A tree with some of everything.
fn tree(directory: &Path) {
    let long = format!("{}/{}", "long".repeat(40), "name".repeat(60));
    fs::create_dir_all(directory.join(Path::new(&long).parent().unwrap())).unwrap();
    fs::write(directory.join(&long), "long").unwrap();
    fs::create_dir_all(directory.join("empty")).unwrap();
    fs::set_permissions(directory.join("empty"), fs::Permissions::from_mode(0o1750)).unwrap();
    fs::write(directory.join("file"), "some text\n").unwrap();
    fs::write(directory.join("ünï \n code"), "").unwrap();
    fs::hard_link(directory.join("file"), directory.join("second name")).unwrap();
    symlink("../wherever", directory.join("link")).unwrap();
    symlink("t".repeat(300), directory.join("long link")).unwrap();
    fs::write(
        directory.join("big"),
        (0..300_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>(),
    )
    .unwrap();
    let sparse = fs::File::create(directory.join("sparse")).unwrap();
    for piece in 0..40u64 {
        std::os::unix::fs::FileExt::write_at(&sparse, b"island", piece * 100_000 + 50_000).unwrap();
    }
    sparse.set_len(5_000_000).unwrap();
    let mkfifo = Command::new("mkfifo").arg(directory.join("fifo")).status().unwrap();
    assert!(mkfifo.success());
    if root() {
        let mknod = Command::new("mknod")
            .arg(directory.join("null"))
            .args(["c", "1", "3"])
            .status()
            .unwrap();
        assert!(mknod.success());
        std::os::unix::fs::chown(directory.join("file"), Some(4_000_000), Some(12)).unwrap();
    }
    let time = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567, 890_123_456));
    fs::File::open(directory.join("file")).unwrap().set_times(time).unwrap();
    let value = b"line\nfeeds\0and=more\n";
    let file = fs::File::open(directory.join("file")).unwrap();
    rustix::fs::fsetxattr(&file, "user.test", value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn lines(directory: &Path, options: &str) -> String {
    // GNU tar's own format has no attributes
    let attributes = if options.contains("posix") { "--xattrs --xattrs-include='*'" } else { "" };
    let shell = format!("tar -C {} {attributes} {options} -c .", directory.display());
    format!("name = 'data'\ntar = {}\n", toml::Value::from(shell))
}

fn paths(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(paths(&path));
        }
        found.push(path);
    }
    found
}

fn compare(directory: &Path, memory: &Memory, has_nanoseconds: bool) {
    let all = paths(directory);
    assert_eq!(memory.files.len() + memory.entries.len() + memory.links.len(), all.len() + 1);
    assert_eq!(memory.entries[""].0, EntryKind::Directory);
    let mut linked = 0;
    for path in all {
        let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
        let real = fs::symlink_metadata(&path).unwrap();
        if let Some(to) = memory.links.get(name) {
            assert_eq!(fs::metadata(directory.join(to)).unwrap().ino(), real.ino());
            linked += 1;
            continue;
        }
        let (kind, stored) = match memory.files.get(name) {
            Some((metadata, bytes)) => {
                assert!(fs::read(&path).unwrap() == *bytes, "{name}");
                (EntryKind::File, metadata)
            }
            None => memory.entries.get(name).map(|(kind, metadata)| (*kind, metadata)).expect(name),
        };
        let kind_bits = match kind {
            EntryKind::File => 0o100000,
            EntryKind::Directory => 0o040000,
            EntryKind::Symlink => 0o120000,
            EntryKind::CharDevice => 0o020000,
            EntryKind::BlockDevice => 0o060000,
            EntryKind::Fifo => 0o010000,
        };
        assert_eq!(real.mode(), kind_bits | stored.mode, "{name}");
        assert_eq!((real.uid(), real.gid()), (stored.uid, stored.gid), "{name}");
        assert_eq!(real.mtime(), stored.mtime.seconds, "{name}");
        if has_nanoseconds {
            assert_eq!(real.mtime_nsec(), i64::from(stored.mtime.nanoseconds), "{name}");
        }
        if kind == EntryKind::Symlink {
            assert_eq!(fs::read_link(&path).unwrap().to_str().unwrap().as_bytes(), stored.target);
        }
        if kind == EntryKind::CharDevice {
            assert_eq!(stored.device, Some((1, 3)));
        }
        if real.uid() == 0 {
            assert_eq!(stored.user.as_slice(), b"root");
        }
    }
    assert_eq!(linked, 1);
}

#[test]
fn a_tree_comes_through_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path());
    for options in [
        "--format=gnu",
        "--format=gnu --sparse",
        "--format=posix",
        "--format=posix --sparse --sparse-version=0.0",
        "--format=posix --sparse --sparse-version=0.1",
        "--format=posix --sparse --sparse-version=1.0",
    ] {
        let posix = options.contains("posix");
        let (memory, outcome, _) = capture(&lines(directory.path(), options));
        assert_eq!(outcome, Ok(()), "{options}");
        assert_eq!(memory.notes, [""; 0], "{options}");
        compare(directory.path(), &memory, posix);
        if posix {
            let named = ["file", "second name"].map(|name| memory.files.get(name));
            let (metadata, _) = named.into_iter().flatten().next().unwrap();
            let value = b"line\nfeeds\0and=more\n".to_vec();
            assert!(
                metadata.xattrs.contains(&(b"user.test".to_vec(), value)),
                "{:?}",
                metadata.xattrs
            );
        }
    }
}

#[test]
fn a_stream_that_is_cut_fails_although_the_command_says_it_is_well() {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path());
    let whole = directory.path().with_extension("tar");
    for format in ["gnu", "posix"] {
        let made = Command::new("tar")
            .arg("-C")
            .arg(directory.path())
            .args(["--format", format, "-cf"])
            .arg(&whole)
            .arg(".")
            .status();
        assert!(made.unwrap().success());
        let length = fs::metadata(&whole).unwrap().len();
        let cut = |bytes: u64| {
            let shell = format!("head -c {bytes} {}", whole.display());
            format!("name = 'data'\ntar = {}\n", toml::Value::from(shell))
        };
        // the second half of the end, the end itself, a member's content, one block, one byte
        let end = fs::read(&whole).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
        let end = end.next_multiple_of(512);
        for bytes in [length / 2, end + 512, end, end - 512, 512, 100, 1, length - 1] {
            fails(&cut(bytes), &["cut off"]);
        }
        fails(&cut(0), &["head"]);
        assert_eq!(capture(&cut(length)).1, Ok(()));
        assert_eq!(capture(&cut(end + 1024)).1, Ok(()));
    }
    let garbage =
        format!("name = 'data'\ntar = \"cat {}; echo something else\"\n", whole.display());
    assert_eq!(capture(&garbage).1, Ok(()));
    let failing =
        format!("name = 'data'\ntar = \"cat {}; echo no space >&2; exit 2\"\n", whole.display());
    fails(&failing, &["exit status 2: no space"]);
    let damaged = format!("name = 'data'\ntar = \"tail -c +100 {}\"\n", whole.display());
    fails(&damaged, &["no tar stream"]);
    fails("name = 'data'\ntar = 'head -c 10240 /dev/zero'\n", &["gave nothing"]);
    fails("name = 'data'\ntar = 'cat /dev/urandom'\n", &["no tar stream"]);
    fs::remove_file(&whole).unwrap();
}

/// Names that would lie outside of the source are left out, and told.
#[test]
fn names_are_made_relative_and_bad_ones_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("made.tar");
    let mut builder = tar::Builder::new(fs::File::create(&file).unwrap());
    for name in ["/etc/passwd", "./a//b", "../up", "a/../../up", "ok"] {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(3);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, &b"abc"[..]).unwrap();
    }
    let mut odd = tar::Header::new_ustar();
    odd.set_path("odd").unwrap();
    odd.set_entry_type(tar::EntryType::new(b'Z'));
    odd.set_size(3);
    odd.set_cksum();
    builder.append(&odd, &b"abc"[..]).unwrap();
    builder.finish().unwrap();
    let (memory, outcome, _) =
        capture(&format!("name = 'data'\ntar = ['cat', '{}']\n", file.display()));
    assert_eq!(outcome, Ok(()));
    let names: Vec<&String> = memory.files.keys().collect();
    assert_eq!(names, ["a/b", "etc/passwd", "ok"]);
    assert_eq!(memory.notes.len(), 3, "{:?}", memory.notes);
    assert!(memory.notes.iter().all(|note| note.contains("left out")));
}
