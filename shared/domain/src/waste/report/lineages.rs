//! The price of snapshots that share their blocks.

use std::collections::HashMap;

use crate::money::Usd;

/// The price of each lineage so far: its largest snapshot.
///
/// Snapshots of one volume are incremental: thirty of them cost about as much as one, and at most thirty
/// times as much. The first snapshot that is seen carries its full price. A further one carries only the
/// excess over the largest before it. The rows therefore add up to one price for each lineage, whatever their
/// order, in one pass.
#[derive(Debug, Default)]
pub struct Lineages {
    // The key is the low 64 bits of the id: ids are 8 digits, or 17 of which AWS leaves the first zero. Text
    // keys would be most of the scanner's memory in a large account.
    largest: HashMap<u64, Usd>,
}

impl Lineages {
    /// Adds a snapshot of the lineage. Returns the amount that it adds to the price.
    pub fn add(&mut self, lineage: &str, price: Usd) -> Usd {
        let largest = self.largest.entry(key(lineage)).or_default();
        let before = *largest;
        *largest = before.max(price);
        *largest - before
    }

    /// Returns the number of lineages.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.largest.len() as u64
    }
}

fn key(lineage: &str) -> u64 {
    let digits = lineage.rsplit('-').next().unwrap_or_default();
    digits.bytes().fold(0, |key, byte| {
        let digit = char::from(byte).to_digit(16).unwrap_or_else(|| u32::from(byte));
        key.wrapping_shl(4) ^ u64::from(digit)
    })
}
