//! What a profile's steps need of its keys, before anything runs.

use super::profile::ProfileKind;
use super::resolve::Profile;
use crate::format::slot::Role;

/// What a step needs to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// to put snapshots
    Write,
    /// to open data and file names
    Read,
    /// to forget and prune
    Maintain,
}

impl Right {
    pub fn is_of(self, role: Role) -> bool {
        match self {
            Right::Write => role.may_write(),
            Right::Read => role.may_read(),
            Right::Maintain => role.may_maintain(),
        }
    }

    /// The keys that have it, `full or write`.
    pub fn keys(self) -> &'static str {
        match self {
            Right::Write => "full or write",
            Right::Read => "full or read",
            Right::Maintain => "full or maintain",
        }
    }
}

/// A step of a profile in one of its repositories.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    pub repository: String,
    pub step: &'static str,
    pub right: Right,
}

/// What the key of each repository must be good for, repository by repository.
pub fn needs(profile: &Profile) -> Vec<Need> {
    let settings = &profile.settings;
    let reads_data = settings.check.as_ref().is_some_and(|check| check.read_data.is_some());
    let kind = profile.kind();
    let steps = [
        ("backup", Right::Write, kind == ProfileKind::Backup),
        ("standby", Right::Read, kind == ProfileKind::Standby),
        ("retention", Right::Maintain, settings.retention.is_some()),
        ("prune", Right::Maintain, settings.prune.is_some()),
        ("check of data", Right::Read, reads_data),
        ("drill", Right::Read, settings.drill.is_some()),
        ("copy from", Right::Read, !profile.copies().is_empty()),
    ];
    let mut needs = Vec::new();
    for repository in profile.repositories() {
        for (step, right, _) in steps.iter().filter(|step| step.2) {
            needs.push(Need { repository: repository.clone(), step, right: *right });
        }
    }
    for copy in profile.copies() {
        needs.push(Need { repository: copy.to.clone(), step: "copy to", right: Right::Write });
    }
    needs
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::parse;
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, Right)]) {
        let text = format!("[profiles.a]\nrepositories = ['/r']\n{text}");
        let loaded = parse(Path::new("a"), text);
        assert_eq!(loaded.findings, []);
        let needs = needs(loaded.configuration.profile("a").unwrap());
        let needs: Vec<_> =
            needs.iter().map(|need| (need.repository.as_str(), need.step, need.right)).collect();
        assert_eq!(needs, expected);
    }

    #[test]
    fn steps_need_what_their_operations_ask_for() {
        check("", &[("/r", "backup", Right::Write)]);
        check(
            "retention = { last = 1 }\nprune = {}\ncheck = {}\ncopy = [{ to = '/s' }]",
            &[
                ("/r", "backup", Right::Write),
                ("/r", "retention", Right::Maintain),
                ("/r", "prune", Right::Maintain),
                ("/r", "copy from", Right::Read),
                ("/s", "copy to", Right::Write),
            ],
        );
        check(
            "kind = 'maintenance'\ncheck = { read_data = '5%' }\ndrill = {}",
            &[("/r", "check of data", Right::Read), ("/r", "drill", Right::Read)],
        );
        check(
            "kind = 'standby'\nstandby = { host = 'h', profile = 'p' }",
            &[("/r", "standby", Right::Read)],
        );
    }

    #[test]
    fn keys_have_the_rights_they_are_said_to_have() {
        for right in [Right::Write, Right::Read, Right::Maintain] {
            for role in Role::ALL {
                let said = right.keys().split(" or ").any(|name| name == role.name());
                assert_eq!(right.is_of(role), said, "{right:?} {}", role.name());
            }
        }
    }
}
