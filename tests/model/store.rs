//! The store as the protocol sees it: which objects exist, and what they say.
//!
//! Every set is a few bits. A key is never used again, so an object has its own
//! bit for ever, and what a removed object said can stay where it is.

/// Chunks by coordinate, and reference pages: the page that names a coordinate
/// has the bit of that coordinate. A snapshot needs the coordinates it uses and
/// the pages that name them, so one set says both.
pub type Chunks = u8;
pub type Packs = u16;
pub type Segments = u16;
pub type Snapshots = u8;

pub const BACKUPS: usize = 2;
pub const MAINTAINERS: usize = 2;
/// How often a maintainer may prune.
pub const ROUNDS: usize = 2;
/// Runs of a backup that had to start again, and manifests of one backup.
pub const RUNS: usize = 2;
pub const MANIFESTS: usize = 3;

const PACKS: usize = 2 + RUNS * BACKUPS + ROUNDS * MAINTAINERS;
const SNAPSHOTS: usize = 1 + BACKUPS * MANIFESTS;

/// The old snapshot, which uses chunk a of the old pack.
pub const S0: usize = 0;
/// The old packs: one holds chunks a and b, one the pages that name them.
pub const OLD_DATA: usize = 0;
pub const OLD_PAGES: usize = 1;

pub fn pack_of_backup(backup: usize, run: u8) -> usize {
    2 + RUNS * backup + usize::from(run)
}

pub fn pack_of_round(maintainer: usize, round: u8) -> usize {
    2 + RUNS * BACKUPS + ROUNDS * maintainer + usize::from(round)
}

/// The segment that lists one new pack has that pack's number; those that remove
/// or merge come behind.
pub fn removing_segment(maintainer: usize, round: u8) -> usize {
    PACKS + ROUNDS * maintainer + usize::from(round)
}

pub fn snapshot_of(backup: usize, manifest: u8) -> usize {
    1 + MANIFESTS * backup + usize::from(manifest)
}

/// Every coordinate at which chunk a, and chunk b, may be born: in the old pack,
/// in the two runs of the first backup, in those of the second, which has no a.
const CHUNK_A: Chunks = 0b0001_0101;
const CHUNK_B: Chunks = 0b1110_1010;

/// What a backup has to store, each as the coordinates it may have.
pub fn wanted(backup: usize) -> &'static [Chunks] {
    [&[CHUNK_A, CHUNK_B][..], &[CHUNK_B]][backup]
}

/// Where a chunk is born when a run of a backup has to store it.
pub fn birth(backup: usize, run: u8, chunk: Chunks) -> Chunks {
    let born_there = [0b0000_1100 << (2 * run), 0b0100_0000 << run][backup];
    chunk & born_there
}

/// What a pack holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Toc {
    pub data: Chunks,
    pub pages: Chunks,
}

impl Toc {
    pub fn is_empty(self) -> bool {
        self.data | self.pages == 0
    }

    pub fn is_within(self, other: Toc) -> bool {
        self.data & !other.data == 0 && self.pages & !other.pages == 0
    }

    /// What of it is needed by those who use these coordinates.
    pub fn used_by(self, needed: Chunks) -> Toc {
        Toc { data: self.data & needed, pages: self.pages & needed }
    }
}

/// A segment that removes packs, and may merge others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Removing {
    pub lists: Packs,
    pub removes: Packs,
    pub supersedes: Segments,
}

/// A plan in `sweeps/`; one that names nothing is as good as none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sweep {
    pub packs: Packs,
    pub manifests: Snapshots,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Store {
    pub packs: Packs,
    pub tocs: [Toc; PACKS],
    pub segments: Segments,
    pub removing: [Removing; ROUNDS * MAINTAINERS],
    pub manifests: Snapshots,
    pub confirmed: Snapshots,
    /// What the manifests refer to.
    pub references: [Chunks; SNAPSHOTS],
    /// Whether the mark that counts on S0 is *forget*.
    pub forgotten: bool,
    pub sweeps: [Sweep; MAINTAINERS],
}

impl Store {
    pub fn new() -> Store {
        let mut store = Store {
            packs: 0b11,
            tocs: [Toc::default(); PACKS],
            segments: 0b11,
            removing: [Removing::default(); ROUNDS * MAINTAINERS],
            manifests: 1 << S0,
            confirmed: 1 << S0,
            references: [0; SNAPSHOTS],
            forgotten: false,
            sweeps: [Sweep::default(); MAINTAINERS],
        };
        store.tocs[OLD_DATA].data = 0b11;
        store.tocs[OLD_PAGES].pages = 0b11;
        store.references[S0] = 0b01;
        store
    }

    /// Packs that any plan names, but that of `except`.
    pub fn condemned(&self, except: Option<usize>) -> Packs {
        let others = self.sweeps.iter().enumerate().filter(|(at, _)| Some(*at) != except);
        others.fold(0, |packs, (_, sweep)| packs | sweep.packs)
    }

    /// Whether any plan names the manifest.
    pub fn is_doomed(&self, snapshot: usize) -> bool {
        self.sweeps.iter().any(|sweep| sweep.manifests & 1 << snapshot != 0)
    }

    /// What somebody who listed these segments may have read of them: all that
    /// exist, and any of those that were deleted since. (Segments do not change,
    /// so it makes no difference when in between they were read.)
    pub fn readings(&self, listed: Segments) -> impl Iterator<Item = Segments> {
        let (there, gone) = (listed & self.segments, listed & !self.segments);
        subsets(gone).map(move |in_time| there | in_time)
    }

    /// The index as these segments tell it.
    pub fn index(&self, segments: Segments) -> Packs {
        let merged = self.merge(segments);
        merged.lists & !merged.removes
    }

    /// All that these segments say, in one.
    pub fn merge(&self, segments: Segments) -> Removing {
        let lists = segments & ((1 << PACKS) - 1);
        let mut all = Removing { lists, removes: 0, supersedes: segments };
        for at in bits(segments >> PACKS) {
            all.lists |= self.removing[at].lists;
            all.removes |= self.removing[at].removes;
        }
        all
    }

    /// Segments that any of these supersedes.
    pub fn superseded(&self, segments: Segments) -> Segments {
        bits(segments >> PACKS).fold(0, |all, at| all | self.removing[at].supersedes)
    }

    pub fn put_removing(&mut self, segment: usize, says: Removing) {
        self.segments |= 1 << segment;
        self.removing[segment - PACKS] = says;
    }

    pub fn held_by(&self, packs: Packs) -> Toc {
        bits(packs).fold(Toc::default(), |all, at| {
            let toc = self.tocs[at];
            Toc { data: all.data | toc.data, pages: all.pages | toc.pages }
        })
    }

    pub fn used_by(&self, snapshots: Snapshots) -> Chunks {
        bits(snapshots.into()).fold(0, |all, at| all | self.references[at])
    }

    /// Whether all that a snapshot needs lies in packs that exist and are indexed.
    pub fn is_restorable(&self, snapshot: usize) -> bool {
        let needed = self.references[snapshot];
        let held = self.held_by(self.packs & self.index(self.segments));
        Toc { data: needed, pages: needed }.is_within(held)
    }
}

/// The numbers of the bits that are set.
pub fn bits(mut set: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (lowest < 16).then_some(lowest as usize)
    })
}

/// Every subset of a set, the whole one first, the empty one last.
pub fn subsets(set: u16) -> impl Iterator<Item = u16> {
    let mut next = Some(set);
    std::iter::from_fn(move || {
        let this = next?;
        next = (this != 0).then(|| (this - 1) & set);
        Some(this)
    })
}
