//! How many take part, and which step they leave out.

use std::fmt;

use super::store::MAINTAINERS;

/// Steps that can be left out, or done in the wrong way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Omission {
    /// B1 counts packs that a plan names as present.
    ReuseCondemned,
    /// B4 is left out.
    NoCheck,
    /// B4 does not list sweeps.
    CheckWithoutSweeps,
    /// B4 comes before B3.
    CheckBeforeManifest,
    /// B4 lists sweeps after segments and packs.
    CheckSweepsLast,
    /// Nobody lists packs: what is indexed is taken to exist.
    IndexIsExistence,
    /// B7 is left out.
    NoLookAfterConfirmation,
    /// B7 does not list sweeps.
    LookWithoutSweeps,
    /// B7 lists sweeps, and does not look for manifest and confirmation.
    LookForSweepsOnly,
    /// B7 lists sweeps after it looked for manifest and confirmation.
    LookForSweepsLast,
    /// P4 comes after P5.
    ListBeforeSweep,
    /// P5 does not list marks and confirmations again.
    NoMarksAgain,
    /// P5 does not list snapshots again.
    NoSnapshotsAgain,
    /// P5 does not list other sweeps.
    NoSweepsAgain,
    /// P5 lists snapshots before marks and confirmations.
    SnapshotsBeforeMarks,
    /// P5 lists other sweeps after segments and packs.
    PruneSweepsLast,
    /// P5 looks for coordinates only.
    PruneForgetsPages,
    /// P5 counts packs of P3 that no segment lists yet; it comes after P6.
    RepackIndexedLate,
    /// P6 deletes packs before confirmations and manifests.
    PacksBeforeManifests,
    /// P6 deletes packs before the segment that removes them is put.
    PacksBeforeRemoving,
    /// P6 deletes manifests before confirmations.
    ManifestsBeforeConfirmations,
    /// P6 deletes segments in the run that superseded them.
    SupersededAtOnce,
    /// P6 deletes superseded segments before it puts the one that replaces them.
    SupersededBeforeMerged,
    /// A merged segment does not carry removes on.
    MergeForgetsRemoves,
    /// A merged segment supersedes what was listed and not read.
    MergeSupersedesUnread,
    /// Anyone removes any plan at any time.
    ForeignPlanRemoval,
    /// A second run carries on the deletions of a first one's sweep.
    ForeignSweep,
    /// U2 is left out.
    BlindUndo,
    /// U2 does not list sweeps.
    UndoWithoutSweeps,
    /// U2 lists sweeps after everything else.
    UndoSweepsLast,
    /// U2 does not look for manifest and confirmation.
    UndoWithoutManifest,
    /// U2 looks for sweeps, manifest and confirmation only.
    UndoWithoutPacks,
    /// U2 looks for coordinates and not for pages.
    UndoForgetsPages,
}

#[derive(Clone, Copy)]
pub struct Configuration {
    pub backups: usize,
    pub maintainers: usize,
    /// Whether S0 is forgotten and undone, as often as one likes.
    pub undo: bool,
    /// Whether maintainers merge segments.
    pub merging: bool,
    /// How often each maintainer prunes.
    pub rounds: [u8; MAINTAINERS],
    /// How many manifests a backup may put before it gives up.
    pub manifests: u8,
    /// Whether the store may lose a pack while S0 is forgotten.
    pub damage: bool,
    /// Whether what is listed is held to be restorable, or only what was reported.
    pub listed: bool,
    pub without: &'static [Omission],
}

impl Configuration {
    pub const fn new(backups: usize, maintainers: usize) -> Configuration {
        Configuration {
            backups,
            maintainers,
            undo: false,
            merging: false,
            rounds: [1; MAINTAINERS],
            manifests: 2,
            damage: false,
            listed: true,
            without: &[],
        }
    }

    pub const fn undo(self) -> Configuration {
        Configuration { undo: true, ..self }
    }

    pub const fn merging(self) -> Configuration {
        Configuration { merging: true, ..self }
    }

    pub const fn rounds(self, rounds: [u8; MAINTAINERS]) -> Configuration {
        Configuration { rounds, ..self }
    }

    pub const fn manifests(self, manifests: u8) -> Configuration {
        Configuration { manifests, ..self }
    }

    pub const fn damage(self) -> Configuration {
        Configuration { damage: true, listed: false, ..self }
    }

    pub const fn reported_only(self) -> Configuration {
        Configuration { listed: false, ..self }
    }

    pub const fn without(self, without: &'static [Omission]) -> Configuration {
        Configuration { without, ..self }
    }

    pub fn omits(&self, omission: Omission) -> bool {
        self.without.contains(&omission)
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Configuration { backups, maintainers, manifests, .. } = self;
        write!(f, "{backups} × backup, {maintainers} × maintainer")?;
        if self.rounds != [1; MAINTAINERS] {
            write!(f, ", prunes of each {:?}", &self.rounds[..*maintainers])?;
        }
        if *backups > 0 {
            write!(f, ", manifests of each {manifests}")?;
        }
        for (given, word) in
            [(self.undo, "undo"), (self.merging, "merging"), (self.damage, "damage")]
        {
            if given {
                write!(f, ", {word}")?;
            }
        }
        for omission in self.without {
            write!(f, ", {omission:?}")?;
        }
        Ok(())
    }
}
