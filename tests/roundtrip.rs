//! Whatever a tree holds, and however it changes from night to night, every
//! snapshot gives back what was there.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use esker::store::{OpendalStore, Store};
use proptest::prelude::*;

/// How a file's bytes come about.
#[derive(Clone, Debug)]
enum Bytes {
    Noise {
        seed: u8,
        length: usize,
    },
    Repeated {
        byte: u8,
        length: usize,
    },
    /// Noise with zeros in its middle.
    Gap {
        seed: u8,
        before: usize,
        gap: usize,
        after: usize,
    },
}

fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

impl Bytes {
    fn make(&self) -> Vec<u8> {
        match *self {
            Bytes::Noise { seed, length } => noise(seed, length),
            Bytes::Repeated { byte, length } => vec![byte; length],
            Bytes::Gap { seed, before, gap, after } => {
                [noise(seed, before), vec![0; gap], noise(seed, after)].concat()
            }
        }
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    let length = prop_oneof![Just(0), 1..200usize, 1..40_000usize, 1..1_200_000usize];
    prop_oneof![
        (0..4u8, length.clone()).prop_map(|(seed, length)| Bytes::Noise { seed, length }),
        (any::<u8>(), length).prop_map(|(byte, length)| Bytes::Repeated { byte, length }),
        (0..4u8, 0..90_000usize, 0..900_000usize, 0..90_000usize)
            .prop_map(|(seed, before, gap, after)| Bytes::Gap { seed, before, gap, after }),
    ]
}

type Night = BTreeMap<(u8, u8), Bytes>;

fn night() -> impl Strategy<Value = Night> {
    proptest::collection::btree_map((0..4u8, 0..8u8), bytes(), 0..12)
}

fn write(tree: &Path, night: &Night) {
    let _ = fs::remove_dir_all(tree);
    fs::create_dir(tree).unwrap();
    for ((directory, name), bytes) in night {
        let directory = tree.join(format!("d{directory}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{name}")), bytes.make()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_snapshot_gives_back_its_night(nights in proptest::collection::vec(night(), 1..4)) {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
        support::init(&store);
        let mut expected = Vec::new();
        for night in &nights {
            write(&tree, night);
            support::settle();
            let id = support::run(&support::open(&store), &tree).snapshot.unwrap();
            expected.push((id, support::on_disk(&tree)));
        }
        for (id, files) in expected {
            prop_assert_eq!(support::contents(&support::open(&store), id), files);
        }
    }
}
