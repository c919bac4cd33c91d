//! What is known of each pack, all of it in memory: a hundred million chunks
//! are two hundred thousand packs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::Connection;

use super::toc::PackToc;
use crate::format::pack::{Birth, PackKind};
use crate::id::{PackId, SegmentId, SnapshotId, WriterId};

/// A number for a pack in this database only, never used again.
pub type PackNumber = u32;

#[derive(Clone, Debug)]
pub struct PackInfo {
    pub id: PackId,
    pub length: u64,
    pub kind: PackKind,
    pub birth: Birth,
    /// The run that put it.
    pub run: SnapshotId,
    pub chunks: u32,
    /// Whether some of its chunks were born in other packs.
    pub has_foreign: bool,
    /// Who claimed its blocks, if that was the same writer for all of them.
    pub claimed_by: Option<WriterId>,
    /// Who signed its table of contents.
    pub signer: WriterId,
    /// Hash of the table as it lies in the pack: the one that was believed.
    pub frame_hash: [u8; 16],
    /// Who signed the segments that list it.
    pub listed_by: Arc<[WriterId]>,
}

/// A pack as it goes into the index.
pub struct NewPack {
    pub id: PackId,
    pub length: u64,
    pub signer: WriterId,
    /// Hash of the table as it lies in the pack.
    pub frame_hash: [u8; 16],
    pub toc: Arc<PackToc>,
}

impl NewPack {
    fn info(&self, listed_by: Arc<[WriterId]>) -> PackInfo {
        let toc = &self.toc.toc;
        PackInfo {
            id: self.id,
            length: self.length,
            kind: toc.kind,
            birth: toc.birth,
            run: toc.run,
            chunks: toc.chunks.len() as u32,
            has_foreign: !toc.foreign.is_empty(),
            claimed_by: toc.claimed_by(),
            signer: self.signer,
            frame_hash: self.frame_hash,
            listed_by,
        }
    }
}

/// Which packs there are.
#[derive(Default)]
pub struct PackTable {
    pub by_number: HashMap<PackNumber, PackInfo>,
    pub by_id: HashMap<PackId, PackNumber>,
    /// Chunks of all packs together.
    pub chunks: u64,
    /// Lists of writers, which very many packs have in common.
    listers: HashSet<Arc<[WriterId]>>,
}

impl PackTable {
    pub fn get(&self, id: PackId) -> Option<(PackNumber, &PackInfo)> {
        let number = *self.by_id.get(&id)?;
        Some((number, self.by_number.get(&number)?))
    }

    fn shared(&mut self, writers: &[WriterId]) -> Arc<[WriterId]> {
        if let Some(list) = self.listers.get(writers) {
            return list.clone();
        }
        let list: Arc<[WriterId]> = writers.into();
        self.listers.insert(list.clone());
        list
    }

    fn insert(&mut self, number: PackNumber, info: PackInfo) {
        self.chunks += u64::from(info.chunks);
        self.by_id.insert(info.id, number);
        if let Some(old) = self.by_number.insert(number, info) {
            self.chunks -= u64::from(old.chunks);
        }
    }

    pub fn add(&mut self, number: PackNumber, pack: &NewPack, lister: WriterId) {
        let info = pack.info(self.shared(&[lister]));
        self.insert(number, info);
    }

    /// Notes that a segment by `lister` lists the pack, too.
    pub fn listed(&mut self, id: PackId, lister: WriterId) {
        let Some((number, info)) = self.get(id) else { return };
        if !info.listed_by.contains(&lister) {
            let mut writers = info.listed_by.to_vec();
            writers.push(lister);
            let list = self.shared(&writers);
            if let Some(info) = self.by_number.get_mut(&number) {
                info.listed_by = list;
            }
        }
    }

    pub fn remove(&mut self, id: PackId) -> Option<PackNumber> {
        let number = self.by_id.remove(&id)?;
        let info = self.by_number.remove(&number)?;
        self.chunks -= u64::from(info.chunks);
        Some(number)
    }

    /// Reads them all.
    pub fn read(database: &Connection) -> rusqlite::Result<PackTable> {
        let mut table = PackTable::default();
        let count = "SELECT count(*) FROM pack";
        let count: i64 = database.query_row(count, [], |row| row.get(0))?;
        table.by_number.reserve(count as usize);
        table.by_id.reserve(count as usize);
        let nobody: Arc<[WriterId]> = Arc::new([]);
        let mut packs = database.prepare(
            "SELECT number, id, length, kind, birth, run, chunks, has_foreign, claimed_by,
             signer, frame FROM pack WHERE id NOT IN (SELECT pack FROM removed)",
        )?;
        let mut rows = packs.query([])?;
        while let Some(row) = rows.next()? {
            let info = PackInfo {
                id: PackId(row.get(1)?),
                length: row.get::<_, i64>(2)? as u64,
                kind: PackKind::from_byte(row.get(3)?).unwrap_or(PackKind::Data),
                birth: Birth(row.get::<_, i64>(4)? as u64),
                run: SnapshotId(row.get(5)?),
                chunks: row.get(6)?,
                has_foreign: row.get(7)?,
                claimed_by: row.get::<_, Option<_>>(8)?.map(WriterId),
                signer: WriterId(row.get(9)?),
                frame_hash: row.get(10)?,
                listed_by: nobody.clone(),
            };
            table.insert(row.get(0)?, info);
        }
        table.read_listers(database)?;
        Ok(table)
    }

    fn read_listers(&mut self, database: &Connection) -> rusqlite::Result<()> {
        let mut segments = database.prepare("SELECT id, signer FROM segment")?;
        let segments =
            segments.query_map([], |row| Ok((SegmentId(row.get(0)?), WriterId(row.get(1)?))))?;
        let signers: HashMap<SegmentId, WriterId> = segments.collect::<rusqlite::Result<_>>()?;
        let mut links = database.prepare("SELECT pack, segment FROM segment_pack ORDER BY pack")?;
        let mut rows = links.query([])?;
        let mut writers: Vec<WriterId> = Vec::new();
        let mut of: PackNumber = 0;
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            if number != of {
                self.set_listers(of, &writers);
                writers.clear();
                of = number;
            }
            let signer = signers.get(&SegmentId(row.get(1)?));
            writers.extend(signer.filter(|signer| !writers.contains(signer)));
        }
        self.set_listers(of, &writers);
        Ok(())
    }

    fn set_listers(&mut self, number: PackNumber, writers: &[WriterId]) {
        let list = self.shared(writers);
        if let Some(info) = self.by_number.get_mut(&number) {
            info.listed_by = list;
        }
    }
}
