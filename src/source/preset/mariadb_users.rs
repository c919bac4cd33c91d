//! Users and roles of MariaDB and MySQL as SQL that any server of the same family reads: who there is, with which hash
//! of a password, and what they may do.

use std::path::Path;

use zeroize::Zeroizing;

use super::mariadb::{Ask, identifier, text_of_hex};
use crate::repository::Result;
use crate::source::usage;

/// Users that belong to the server.
const OWN: [&str; 5] = ["mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema", "PUBLIC"];

/// How servers say that they do not know a user who stands in their table.
const UNKNOWN: [&str; 3] = ["ERROR 1133 ", "ERROR 1141 ", "ERROR 1396 "];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Mariadb,
    Mysql,
}

/// A password that a user is to have.
pub struct Password {
    user: String,
    host: String,
    password: Zeroizing<String>,
}

/// Users and roles as statements.
pub struct Dumped {
    /// Makes them, and makes those who are there the same.
    pub all: String,
    /// Makes those who are not there, and gives rights.
    pub accounts: String,
    /// Of whom the server says nothing: it does not know users of hosts by name where it looks up no names.
    pub unknown: Vec<String>,
}

pub fn dump(ask: &Ask<'_>) -> std::result::Result<Dumped, String> {
    let server = match ask("SELECT VERSION()")?.contains("MariaDB") {
        true => Server::Mariadb,
        false => Server::Mysql,
    };
    let (roles, all) = accounts(ask, server)?;
    let (mut users, mut unknown) = (Vec::new(), Vec::new());
    let (mut made, mut altered) = (String::new(), String::new());
    for role in &roles {
        made += &format!("CREATE ROLE IF NOT EXISTS {role};\n");
    }
    for user in all {
        match create(ask, server, &user) {
            Ok((create, alter)) => {
                made += &format!("{create};\n");
                altered += &format!("{alter};\n");
                users.push(user);
            }
            Err(message) if UNKNOWN.iter().any(|code| message.contains(code)) => unknown.push(user),
            Err(message) => return Err(message),
        }
    }
    let (mut rights, mut defaults) = (String::new(), String::new());
    for account in roles.iter().chain(&users) {
        for line in
            ask(&format!("SHOW GRANTS FOR {account}"))?.lines().filter(|line| !line.is_empty())
        {
            // a default role must have been granted first
            match line.starts_with("SET ") {
                true => defaults += &format!("{line};\n"),
                false => rights += &format!("{};\n", without_password(line)),
            }
        }
    }
    if server == Server::Mysql {
        defaults += &default_roles(ask)?;
    }
    let text = |altered: &str| {
        format!(
            "-- users and roles\nSET sql_mode = '';\n{made}{altered}{rights}{defaults}FLUSH PRIVILEGES;\n"
        )
    };
    Ok(Dumped { all: text(&altered), accounts: text(""), unknown })
}

/// Roles and users as statements name them.
fn accounts(
    ask: &Ask<'_>,
    server: Server,
) -> std::result::Result<(Vec<String>, Vec<String>), String> {
    let is_role = match server {
        Server::Mariadb => "is_role",
        // roles are users who cannot log in
        Server::Mysql => "'N'",
    };
    let query =
        format!("SELECT HEX(user), HEX(host), {is_role} FROM mysql.user ORDER BY user, host");
    let (mut roles, mut users) = (Vec::new(), Vec::new());
    for line in ask(&query)?.lines() {
        let mut columns = line.split('\t');
        let mut column = || columns.next().unwrap_or_default();
        let (name, host, role) = (text_of_hex(column())?, text_of_hex(column())?, column() == "Y");
        if OWN.contains(&name.as_str()) {
            continue;
        }
        match role {
            true => roles.push(identifier(&name)),
            false => users.push(format!("{}@{}", identifier(&name), identifier(&host))),
        }
    }
    Ok((roles, users))
}

/// Statements that make a user, and that make one who is there already the same.
fn create(
    ask: &Ask<'_>,
    server: Server,
    user: &str,
) -> std::result::Result<(String, String), String> {
    let hex = match server {
        Server::Mariadb => "",
        // hashes may be any bytes
        Server::Mysql => "SET print_identified_with_as_hex = ON; ",
    };
    let shown = ask(&format!("{hex}SHOW CREATE USER {user}"))?;
    let statement = shown.lines().next().unwrap_or_default();
    let Some(rest) = statement.strip_prefix("CREATE USER ") else {
        return Err(format!("the server does not say how user {user} is made"));
    };
    let rest = match server {
        Server::Mariadb => rest.to_owned(),
        Server::Mysql => without_default_role(rest),
    };
    Ok((format!("CREATE USER IF NOT EXISTS {rest}"), format!("ALTER USER {rest}")))
}

/// Roles come later than users, so that a user cannot begin with one.
fn without_default_role(rest: &str) -> String {
    match (rest.find(" DEFAULT ROLE "), rest.find(" REQUIRE ")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &rest[..from], &rest[to..]),
        _ => rest.to_owned(),
    }
}

fn default_roles(ask: &Ask<'_>) -> std::result::Result<String, String> {
    let query = "SELECT HEX(user), HEX(host), HEX(default_role_user), HEX(default_role_host) FROM mysql.default_roles ORDER BY 1, 2, 3, 4";
    let mut statements = String::new();
    let mut by_user: Vec<(String, Vec<String>)> = Vec::new();
    for line in ask(query)?.lines() {
        let names =
            line.split('\t').map(text_of_hex).collect::<std::result::Result<Vec<_>, _>>()?;
        let [user, host, role, role_host] = names.as_slice() else {
            return Err(format!("the server gave {line:?} where it was asked for default roles"));
        };
        let user = format!("{}@{}", identifier(user), identifier(host));
        let role = format!("{}@{}", identifier(role), identifier(role_host));
        match by_user.last_mut() {
            Some((last, roles)) if *last == user => roles.push(role),
            _ => by_user.push((user, vec![role])),
        }
    }
    for (user, roles) in by_user {
        statements += &format!("SET DEFAULT ROLE {} TO {user};\n", roles.join(", "));
    }
    Ok(statements)
}

/// Some servers repeat the password in a grant. It was set before, or is not to be set.
fn without_password(grant: &str) -> String {
    let Some(from) = find_unquoted(grant, " IDENTIFIED ") else { return grant.to_owned() };
    let (before, rest) = grant.split_at(from);
    let ends = [" REQUIRE ", " WITH "].into_iter().filter_map(|end| find_unquoted(rest, end));
    format!("{before}{}", &rest[ends.min().unwrap_or(rest.len())..])
}

/// Where words begin that stand in no quotes: names and hashes may have any in them.
fn find_unquoted(text: &str, words: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '`') => quote = Some(c),
            (None, _) if text[at..].starts_with(words) => return Some(at),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

/// Reads lines of `user@host password`; blank lines and those with `#` in front do not count.
pub fn read_passwords(file: &Path) -> Result<Vec<Password>> {
    let wrong = |reason: String| usage(format!("passwords of {}: {reason}", file.display()));
    let text = std::fs::read_to_string(file)
        .map(Zeroizing::new)
        .map_err(|error| wrong(error.to_string()))?;
    let mut passwords = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts = line.split_once(char::is_whitespace).and_then(|(account, password)| {
            let (user, host) = account.rsplit_once('@')?;
            Some((user, host, password.trim_start()))
        });
        let Some((user, host, password)) = parts else {
            return Err(wrong(format!("line {} is not: user@host password", number + 1)));
        };
        passwords.push(Password {
            user: user.to_owned(),
            host: host.to_owned(),
            password: Zeroizing::new(password.to_owned()),
        });
    }
    Ok(passwords)
}

/// Statements that set passwords; a user who is not there is an error of the server.
pub fn set_passwords(passwords: &[Password]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::new());
    for Password { user, host, password } in passwords {
        let quoted = Zeroizing::new(password.replace('\\', "\\\\").replace('\'', "\\'"));
        text.extend_from_slice(
            format!("ALTER USER {}@{} IDENTIFIED BY '", identifier(user), identifier(host))
                .as_bytes(),
        );
        text.extend_from_slice(quoted.as_bytes());
        text.extend_from_slice(b"';\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_both_servers_are_told_apart() {
        let hash = "`u`@`%` IDENTIFIED WITH 'x' AS 0x01 DEFAULT ROLE `r`@`%` REQUIRE NONE";
        assert_eq!(without_default_role(hash), "`u`@`%` IDENTIFIED WITH 'x' AS 0x01 REQUIRE NONE");
        let grant = "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*AB'";
        assert_eq!(without_password(grant), "GRANT USAGE ON *.* TO `u`@`%`");
        let grant = "GRANT ALL ON *.* TO `an IDENTIFIED one`@`%` IDENTIFIED VIA x USING 'a REQUIRE b' WITH GRANT OPTION";
        assert_eq!(
            without_password(grant),
            "GRANT ALL ON *.* TO `an IDENTIFIED one`@`%` WITH GRANT OPTION"
        );
        let grant = "GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION";
        assert_eq!(without_password(grant), grant);
    }

    #[test]
    fn passwords_are_read_line_by_line_and_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("passwords");
        std::fs::write(&file, "# new ones\n\nshop@localhost it's \\ secret\na@b@% x\n").unwrap();
        let passwords = read_passwords(&file).unwrap();
        let text = set_passwords(&passwords);
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            "ALTER USER `shop`@`localhost` IDENTIFIED BY 'it\\'s \\\\ secret';\nALTER USER `a@b`@`%` IDENTIFIED BY 'x';\n"
        );
        std::fs::write(&file, "shop secret\n").unwrap();
        let message = read_passwords(&file).err().unwrap().message;
        assert!(message.ends_with("line 1 is not: user@host password"), "{message}");
    }
}
