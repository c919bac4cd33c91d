//! File systems of a test's own, unmounted when it ends. `None` where mounting is not possible.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether a command could be run and succeeded.
pub fn run(command: &str, arguments: &[&str]) -> bool {
    let run =
        Command::new(command).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// A file system mounted in a temporary directory.
pub struct Mount {
    mounted: bool,
    directory: tempfile::TempDir,
}

impl Mount {
    pub fn tmpfs(options: &str) -> Option<Mount> {
        let mount = Mount { mounted: false, directory: tempfile::tempdir().ok()? };
        mount.mount(&["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// An ext4 or xfs image of 600 MiB (sparse) on a loop device.
    pub fn image(file_system: &str) -> Option<Mount> {
        let mount = Mount { mounted: false, directory: tempfile::tempdir().ok()? };
        let image = std::fs::File::create(mount.image_path()).ok()?;
        image.set_len(600 << 20).ok()?;
        let quiet_and_force = if file_system == "xfs" { "-qf" } else { "-qF" };
        let made =
            run(&format!("mkfs.{file_system}"), &[quiet_and_force, text(&mount.image_path())]);
        if made { mount.mount_image() } else { None }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    /// Unmounts and mounts the image again, which replays its journal.
    pub fn remount(mut self) -> Option<Mount> {
        self.unmount();
        self.mount_image()
    }

    fn image_path(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn mount_image(self) -> Option<Mount> {
        let image = self.image_path();
        self.mount(&["-o", "loop", text(&image)])
    }

    fn mount(mut self, what: &[&str]) -> Option<Mount> {
        let path = self.path();
        std::fs::create_dir_all(&path).ok()?;
        let arguments: Vec<&str> = what.iter().copied().chain([text(&path)]).collect();
        self.mounted = run("mount", &arguments);
        self.mounted.then_some(self)
    }

    fn unmount(&mut self) {
        if self.mounted {
            self.mounted = !run("umount", &[text(&self.path())]);
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount();
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
