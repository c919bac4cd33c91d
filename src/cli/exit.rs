//! Exit codes: one table, and which one counts when several apply.

use crate::repository::ErrorKind;

/// How a command ended, as its caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// An error; nothing was done.
    Failed = 1,
    Usage = 2,
    /// Done, but something could not be read or written.
    Partial = 3,
    NoRepository = 10,
    WrongKey = 12,
    NoRight = 13,
    Damage = 20,
    /// Only of `status`: not as fresh as promised, or nobody can tell.
    Stale = 21,
    /// Only of drills: something could not be restored as it was saved.
    DrillFailed = 22,
    TryLater = 75,
    Interrupted = 130,
}

impl Exit {
    /// Worst first: an end before anything was done, then 1, 20, 12 and 13, 22, 3, 75.
    const WORST_FIRST: [Exit; 12] = [
        Exit::Interrupted,
        Exit::Usage,
        Exit::NoRepository,
        Exit::Failed,
        Exit::Damage,
        Exit::WrongKey,
        Exit::NoRight,
        Exit::DrillFailed,
        Exit::Partial,
        Exit::Stale,
        Exit::TryLater,
        Exit::Ok,
    ];

    pub fn of(kind: ErrorKind) -> Exit {
        match kind {
            ErrorKind::NoRepository => Exit::NoRepository,
            ErrorKind::WrongKey => Exit::WrongKey,
            ErrorKind::NoRight => Exit::NoRight,
            ErrorKind::Damage => Exit::Damage,
            ErrorKind::TryLater => Exit::TryLater,
            ErrorKind::Interrupted => Exit::Interrupted,
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Failed | ErrorKind::Cache | ErrorKind::Full => Exit::Failed,
        }
    }

    /// The one that counts of two that apply.
    pub fn and(self, other: Exit) -> Exit {
        let worst = Exit::WORST_FIRST.into_iter().find(|exit| [self, other].contains(exit));
        worst.unwrap_or(self)
    }

    pub fn code(self) -> u8 {
        self as u8
    }
}

/// `exit` if `applies`.
pub fn when(applies: bool, exit: Exit) -> Exit {
    if applies { exit } else { Exit::Ok }
}

#[cfg(test)]
mod tests {
    use super::Exit::*;

    #[test]
    fn the_worst_of_several_counts() {
        for (one, other, expected) in [
            (Ok, Partial, Partial),
            (Partial, Damage, Damage),
            (Damage, Failed, Failed),
            (Partial, TryLater, Partial),
            (WrongKey, Damage, Damage),
            (NoRight, Partial, NoRight),
            (DrillFailed, Damage, Damage),
            (DrillFailed, WrongKey, WrongKey),
            (DrillFailed, Partial, DrillFailed),
            (Interrupted, Partial, Interrupted),
            (Ok, Ok, Ok),
        ] {
            assert_eq!(one.and(other), expected);
            assert_eq!(other.and(one), expected);
        }
    }

    /// What a run writes into the repository is what its caller saw.
    #[test]
    fn recorded_codes_are_the_same() {
        use crate::repository::{Error, ErrorKind};
        for kind in [
            ErrorKind::NoRepository,
            ErrorKind::WrongKey,
            ErrorKind::NoRight,
            ErrorKind::Damage,
            ErrorKind::TryLater,
            ErrorKind::Interrupted,
            ErrorKind::Usage,
            ErrorKind::Failed,
            ErrorKind::Cache,
            ErrorKind::Full,
        ] {
            let recorded = Error::new(kind, "").exit_code();
            assert_eq!(u64::from(super::Exit::of(kind).code()), recorded, "{kind:?}");
        }
    }

    #[test]
    fn every_code_is_the_documented_one() {
        let all = super::Exit::WORST_FIRST;
        let mut codes: Vec<u8> = all.into_iter().map(super::Exit::code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [0, 1, 2, 3, 10, 12, 13, 20, 21, 22, 75, 130]);
    }
}
