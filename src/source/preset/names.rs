//! Names of databases as names of files, and within the text of commands.

use percent_encoding::percent_decode_str;

/// Names that other files have.
const TAKEN: [&str; 6] = ["", ".", "..", "globals", "users", "fingerprint"];

/// `name.sql`, with `%2F` and its like for what no name of a file can hold or could be taken for something else.
pub fn file_of(name: &str) -> String {
    let mut file = String::with_capacity(name.len() + 4);
    let taken = TAKEN.contains(&name);
    for (at, c) in name.char_indices() {
        match c {
            '/' | '%' | '\\' | '\0'..='\x1f' | '\x7f' => file += &format!("%{:02X}", u32::from(c)),
            _ if taken && at == 0 => file += &format!("%{:02X}", u32::from(c)),
            _ => file.push(c),
        }
    }
    file + ".sql"
}

/// The database whose file this is.
pub fn name_of(file: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(file).ok()?.strip_suffix(".sql")?;
    match TAKEN.contains(&name) {
        true => None,
        false => Some(percent_decode_str(name).decode_utf8().ok()?.into_owned()),
    }
}

/// Which of all databases are saved: those that were chosen, which must be there, or all but some.
pub fn choose(
    there: Vec<String>,
    chosen: Option<&[String]>,
    but: Option<&[String]>,
) -> Result<Vec<String>, String> {
    let but = but.unwrap_or_default();
    let Some(chosen) = chosen else {
        return Ok(there.into_iter().filter(|name| !but.contains(name)).collect());
    };
    match chosen.iter().find(|name| !there.contains(name)) {
        Some(name) => Err(format!("there is no database {name:?} on the server")),
        None => Ok(chosen.iter().filter(|name| !but.contains(name)).cloned().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_file_of_its_own_and_comes_back() {
        let names = [
            "a",
            "globals",
            "users",
            "fingerprint",
            ".",
            "..",
            "a/b",
            "%2F",
            "ü ß",
            "x\ny",
            "%67lobals",
        ];
        let files: std::collections::BTreeSet<String> =
            names.iter().map(|name| file_of(name)).collect();
        assert_eq!(files.len(), names.len());
        for name in names {
            let file = file_of(name);
            assert!(!file.contains('/') && !file.contains('\n'), "{file}");
            assert_eq!(name_of(file.as_bytes()).as_deref(), Some(name));
        }
        assert_eq!(name_of(b"globals.sql"), None);
        assert_eq!(name_of(b"fingerprint.json"), None);
    }
}
