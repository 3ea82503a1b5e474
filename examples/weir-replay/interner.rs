//! Numbers for keys: each distinct key is stored once.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// The distinct keys of a log, numbered in the order of their first request.
#[derive(Debug)]
pub(crate) struct Interner {
    table: HashTable<u32>,
    hasher: RandomState,
    /// All keys, one after the other.
    bytes: Vec<u8>,
    /// Where each key ends.
    ends: Vec<usize>,
}

impl Interner {
    /// Creates an interner for keys whose hashes come from this hasher.
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { table: HashTable::new(), hasher, bytes: Vec::new(), ends: Vec::new() }
    }

    /// The number of a key.
    pub(crate) fn number(&mut self, hash: u64, key: &[u8]) -> u32 {
        let Self { table, hasher, bytes, ends } = self;
        if let Some(number) = table.find(hash, |number| at(bytes, ends, *number) == key) {
            return *number;
        }
        // A log has less than 2^32 lines.
        let number = ends.len() as u32;
        bytes.extend_from_slice(key);
        ends.push(bytes.len());
        table.insert_unique(hash, number, |number| hasher.hash_one(at(bytes, ends, *number)));
        number
    }

    /// The key with a number.
    pub(crate) fn key(&self, number: u32) -> &[u8] {
        at(&self.bytes, &self.ends, number)
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

fn at<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = number.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start..ends[number]]
}
