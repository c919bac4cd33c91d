//! What is kept in memory of the layers: the first key of each leaf, leaves
//! read last, and, once very many leaves were read, a filter for ids that are
//! nowhere.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use super::Place;
use super::rows::{self, KEY_BITS, LayerHead, LayerNumber};

/// Leaves kept in memory: 16 MiB, the rows of 1.4 million chunks.
const KEPT_LEAVES: usize = if cfg!(test) { 3 } else { 4096 };
/// Most bits of a filter, as a power of two: 128 MiB.
const MAX_FILTER: u32 = 30;

struct Layer {
    head: LayerHead,
    leaves: Vec<Option<Box<[u8]>>>,
}

/// The layers as they were when they were loaded. Another process may merge
/// them any time; then leaves are missing, and they must be loaded again.
#[derive(Default)]
pub struct Layers {
    layers: Vec<Layer>,
    kept: usize,
    /// Leaves that had to be read since there is no filter.
    read: usize,
    filter: Option<Filter>,
}

/// A leaf that is not in memory.
#[derive(Clone, Copy)]
pub struct Wanted {
    layer: usize,
    at: usize,
    number: i64,
}

impl Layers {
    /// Takes over which layers there are. What is known of those that stay is kept.
    pub fn load(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        // as of one moment: rows move between layers
        let _moment = match connection.is_autocommit() {
            true => Some(connection.unchecked_transaction()?),
            false => None,
        };
        let mut old: HashMap<LayerNumber, Layer> =
            self.layers.drain(..).map(|layer| (layer.head.extent.number, layer)).collect();
        for extent in rows::extents(connection)? {
            let known = old.remove(&extent.number);
            let mut leaves = Vec::new();
            let head = match known {
                Some(layer) => {
                    leaves = layer.leaves;
                    Some(layer.head).filter(|head| head.extent == extent)
                }
                None => None,
            };
            let head = match head {
                Some(head) => head,
                None => rows::read_head(connection, extent.number)?,
            };
            leaves.resize(head.firsts.len(), None);
            self.layers.push(Layer { head, leaves });
        }
        self.kept = self.layers.iter().flat_map(|layer| &layer.leaves).flatten().count();
        let rows = |layers: &mut dyn Iterator<Item = &Layer>| -> u64 {
            layers.map(|layer| layer.head.extent.rows).sum()
        };
        let all = rows(&mut self.layers.iter());
        // what came since is looked up; most of it new is another matter
        self.filter = self.filter.take().filter(|filter| {
            rows(&mut self.layers.iter().filter(|layer| filter.covers(layer))) * 2 > all
        });
        Ok(())
    }

    /// Places of rows with `key` in leaves that are in memory; the others that
    /// may have some.
    pub fn find(&self, key: u64, places: &mut Vec<Place>) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        let nowhere = self.filter.as_ref().filter(|filter| !filter.may_have(key));
        for (layer, Layer { head, leaves }) in self.layers.iter().enumerate() {
            let rows::Extent { number, start, .. } = head.extent;
            if nowhere.is_some_and(|filter| filter.layers.contains(&number)) {
                continue;
            }
            // equal keys may begin in the leaf before
            let before = head.firsts.partition_point(|first| *first < key).saturating_sub(1);
            let start = before.max(start);
            let firsts = head.firsts.get(start..).unwrap_or_default().iter();
            for (at, _) in (start..).zip(firsts.take_while(|first| **first <= key)) {
                match leaves.get(at) {
                    Some(Some(leaf)) => rows::find_in(leaf, key, places),
                    _ => {
                        let number = rows::leaf_number(number, at);
                        wanted.push(Wanted { layer, at, number });
                    }
                }
            }
        }
        wanted
    }

    /// Reads the leaves that [`find`](Self::find) wanted; false if one is gone.
    pub fn read(
        &mut self,
        connection: &Connection,
        wanted: &[Wanted],
        key: u64,
        places: &mut Vec<Place>,
    ) -> rusqlite::Result<bool> {
        for Wanted { layer, at, number } in wanted.iter().copied() {
            let Some(leaf) = rows::read_leaf(connection, number)? else { return Ok(false) };
            rows::find_in(&leaf, key, places);
            self.keep(layer, at, number, leaf);
        }
        self.read += wanted.len();
        if self.filter.is_none() && self.read > self.leaves().max(KEPT_LEAVES) {
            self.read = 0;
            self.filter = self.build_filter(connection)?;
        }
        Ok(true)
    }

    #[cfg(test)]
    pub fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    fn keep(&mut self, layer: usize, at: usize, number: i64, leaf: Box<[u8]>) {
        if self.kept >= KEPT_LEAVES {
            self.layers.iter_mut().for_each(|layer| layer.leaves.fill(None));
            self.kept = 0;
        }
        let layer = self.layers.get_mut(layer);
        // loaded anew by another thread meanwhile
        let layer = layer.filter(|layer| rows::leaf_number(layer.head.extent.number, at) == number);
        if let Some(slot) = layer.and_then(|layer| layer.leaves.get_mut(at)) {
            self.kept += usize::from(slot.replace(leaf).is_none());
        }
    }

    fn leaves(&self) -> usize {
        self.layers.iter().map(|layer| layer.leaves.len()).sum()
    }

    /// By now it costs less to read all leaves once than to go on like this.
    fn build_filter(&self, connection: &Connection) -> rusqlite::Result<Option<Filter>> {
        let rows: u64 = self.layers.iter().map(|layer| layer.head.extent.rows).sum();
        let Some(mut filter) = Filter::of_size(rows) else { return Ok(None) };
        for Layer { head, .. } in &self.layers {
            for at in head.extent.start..head.firsts.len() {
                let number = rows::leaf_number(head.extent.number, at);
                let Some(leaf) = rows::read_leaf(connection, number)? else { return Ok(None) };
                rows::rows_in(&leaf).for_each(|row| filter.add(rows::key_of(row)));
            }
            filter.layers.insert(head.extent.number);
        }
        Ok(Some(filter))
    }
}

/// One bit for each of many equal ranges of keys: whether any row lies in it.
/// With rows in order it is written in order too.
struct Filter {
    bits: Vec<u64>,
    shift: u32,
    /// Layers whose rows are all in it.
    layers: HashSet<LayerNumber>,
}

impl Filter {
    /// Eight to sixteen bits a row; nothing where that is more than may be, and
    /// most ranges would have a row.
    fn of_size(rows: u64) -> Option<Filter> {
        let power = (rows * 8).max(64).next_power_of_two().ilog2().min(MAX_FILTER);
        let words = 1usize << (power - 6);
        (rows < 1 << (power - 1)).then(|| Filter {
            bits: vec![0; words],
            shift: KEY_BITS - power,
            layers: HashSet::new(),
        })
    }

    fn add(&mut self, key: u64) {
        let bit = key >> self.shift;
        if let Some(word) = self.bits.get_mut((bit / 64) as usize) {
            *word |= 1 << (bit % 64);
        }
    }

    fn may_have(&self, key: u64) -> bool {
        let bit = key >> self.shift;
        self.bits.get((bit / 64) as usize).is_none_or(|word| word >> (bit % 64) & 1 == 1)
    }

    fn covers(&self, layer: &Layer) -> bool {
        self.layers.contains(&layer.head.extent.number)
    }
}
