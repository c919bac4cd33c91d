//! Whether now is a good time for a run that nobody waits for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::config::profile::Conditions;

/// Where a machine tells of itself.
#[derive(Clone, Debug)]
pub struct Places {
    pub power_supply: PathBuf,
    pub mountinfo: PathBuf,
    pub busctl: PathBuf,
    pub nmcli: PathBuf,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            power_supply: "/sys/class/power_supply".into(),
            mountinfo: "/proc/self/mountinfo".into(),
            busctl: "busctl".into(),
            nmcli: "nmcli".into(),
        }
    }
}

/// A sentence for each condition that is not met. What cannot be told counts as met.
pub fn unmet(conditions: &Conditions, places: &Places) -> Vec<String> {
    let mut sentences = Vec::new();
    if conditions.mains_power && !on_mains_power(&places.power_supply) {
        sentences.push("this machine runs on battery".to_owned());
    }
    if conditions.not_metered && is_metered(places) {
        sentences.push("the network connection is metered".to_owned());
    }
    let mounted = mount_points(&places.mountinfo);
    let absent = conditions.mounts.iter().filter(|path| !is_mounted(path, &mounted));
    sentences.extend(absent.map(|path| format!("nothing is mounted on {}", path.display())));
    sentences
}

/// A sentence, if nothing is mounted on `path`.
pub fn not_mounted(path: &Path) -> Option<String> {
    let conditions = Conditions { mounts: vec![path.to_owned()], ..Conditions::default() };
    unmet(&conditions, &Places::default()).pop()
}

/// Any charger that is plugged in will do. Without one, only a battery that is
/// being emptied says otherwise: many machines show neither.
fn on_mains_power(power_supply: &Path) -> bool {
    let Ok(entries) = fs::read_dir(power_supply) else { return true };
    let (mut unplugged, mut discharging) = (false, false);
    for entry in entries.flatten() {
        let read = |name: &str| {
            let text = fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        match read("type").as_str() {
            // of a mouse or a pen
            _ if read("scope") == "Device" => {}
            "Battery" => discharging |= read("status") == "Discharging",
            _ if read("online") == "1" => return true,
            "Mains" => unplugged = true,
            _ => {}
        }
    }
    !unplugged && !discharging
}

/// As NetworkManager sees or guesses it.
fn is_metered(places: &Places) -> bool {
    const NAME: &str = "org.freedesktop.NetworkManager";
    const OBJECT: &str = "/org/freedesktop/NetworkManager";
    let mut busctl = Command::new(&places.busctl);
    busctl.args(["--system", "--timeout=5", "get-property", NAME, OBJECT, NAME, "Metered"]);
    if let Some(value) = printed(busctl) {
        // yes, and guessed yes
        return ["u 1", "u 3"].contains(&value.trim());
    }
    let mut nmcli = Command::new(&places.nmcli);
    nmcli.args(["--wait", "5", "--terse", "--fields", "GENERAL.METERED", "device", "show"]);
    let value = printed(nmcli).unwrap_or_default();
    value.lines().any(|line| line.starts_with("GENERAL.METERED:yes"))
}

fn printed(mut command: Command) -> Option<String> {
    let command = command.env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Nothing where the system has no such list.
fn mount_points(mountinfo: &Path) -> Option<Vec<PathBuf>> {
    let text = fs::read_to_string(mountinfo).ok()?;
    Some(text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect())
}

fn is_mounted(path: &Path, mounted: &Option<Vec<PathBuf>>) -> bool {
    let Some(mounted) = mounted else { return true };
    let path = fs::canonicalize(path).unwrap_or(path.to_owned());
    mounted.contains(&path)
}

/// `\040` is a space: proc(5).
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// A machine that tells nothing of itself.
    fn machine() -> (TempDir, Places) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let places = Places {
            power_supply: path("power_supply"),
            mountinfo: path("mountinfo"),
            busctl: path("busctl"),
            nmcli: path("nmcli"),
        };
        (directory, places)
    }

    fn supply(places: &Places, name: &str, values: &[(&str, &str)]) {
        let directory = places.power_supply.join(name);
        fs::create_dir_all(&directory).unwrap();
        for (file, value) in values {
            fs::write(directory.join(file), format!("{value}\n")).unwrap();
        }
    }

    /// Copied by another process: one that this process has open to write cannot be run.
    fn program(path: &Path, script: &str) {
        let text = path.with_extension("text");
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new("cp").arg("-p").arg(text).arg(path).status().unwrap().success());
    }

    #[test]
    fn what_cannot_be_told_counts_as_met() {
        let (_directory, places) = machine();
        let conditions =
            Conditions { mains_power: true, not_metered: true, mounts: vec!["/mnt".into()] };
        assert_eq!(unmet(&conditions, &places), [""; 0]);
    }

    #[test]
    fn a_battery_counts_only_while_no_charger_is_plugged_in() {
        let conditions = Conditions { mains_power: true, ..Conditions::default() };
        let check = |supplies: &[&[(&str, &str)]], met: bool| {
            let (_directory, places) = machine();
            for (number, values) in supplies.iter().enumerate() {
                supply(&places, &number.to_string(), values);
            }
            let expected: &[&str] = if met { &[] } else { &["this machine runs on battery"] };
            assert_eq!(unmet(&conditions, &places), expected, "{supplies:?}");
        };
        let off = [("type", "Mains"), ("online", "0")];
        let on = [("type", "Mains"), ("online", "1")];
        let usb = [("type", "USB"), ("online", "1")];
        let usb_off = [("type", "USB"), ("online", "0")];
        let empties = [("type", "Battery"), ("status", "Discharging")];
        let full = [("type", "Battery"), ("status", "Full")];
        let mouse = [("type", "Battery"), ("status", "Discharging"), ("scope", "Device")];
        check(&[&on, &empties], true);
        check(&[&off, &empties], false);
        check(&[&off], false);
        check(&[&off, &usb], true);
        check(&[&usb_off, &empties], false);
        check(&[&usb_off, &full], true);
        check(&[&empties], false);
        check(&[&mouse], true);
    }

    #[test]
    fn metered_is_what_networkmanager_says() {
        let conditions = Conditions { not_metered: true, ..Conditions::default() };
        let metered = ["the network connection is metered"];
        for (value, is) in [("u 0", false), ("u 1", true), ("u 2", false), ("u 3", true)] {
            let (_directory, places) = machine();
            program(&places.busctl, &format!("echo '{value}'"));
            assert_eq!(unmet(&conditions, &places), &metered[..usize::from(is)], "{value}");
        }
        let (_directory, places) = machine();
        program(&places.busctl, "exit 1");
        assert_eq!(unmet(&conditions, &places), [""; 0]);
        program(&places.nmcli, "printf 'GENERAL.METERED:no\\n\\nGENERAL.METERED:yes (guessed)\\n'");
        assert_eq!(unmet(&conditions, &places), metered);
    }

    #[test]
    fn a_mount_is_found_by_its_place() {
        let (_directory, places) = machine();
        let line = |path| format!("36 35 98:0 / {path} rw,noatime - ext3 /dev/root rw\n");
        fs::write(&places.mountinfo, line("/") + &line("/media/my\\040disk")).unwrap();
        let mounts = ["/", "/media/my disk", "/media"].map(PathBuf::from).into();
        let conditions = Conditions { mounts, ..Conditions::default() };
        assert_eq!(unmet(&conditions, &places), ["nothing is mounted on /media"]);
        assert_eq!(not_mounted(Path::new("/proc")), None);
        let directory = tempfile::tempdir().unwrap();
        assert!(not_mounted(directory.path()).is_some());
        assert!(not_mounted(Path::new("/nowhere/at/all")).is_some());
    }
}
