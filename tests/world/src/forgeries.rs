//! Somebody else's instances and images that bear our tags. A tag is no proof: nothing of ours may touch them.

use std::collections::BTreeMap;

use crate::oracles::SWAPS;
use crate::virtual_time::now;
use crate::world::World;

/// A swap that nobody has begun, for a forgery before the first one.
const NO_SWAP: &str = "i-0fffffffffffffff1-1767603600000";

impl World {
    /// Lets a stranger launch an On-Demand and a Spot instance with our mark and the tag of the swap in progress. In a LAB
    /// account, an image and its snapshot bear them, too.
    pub(crate) fn tags_are_forged(&mut self) {
        let swap = self.swap_in_progress().unwrap_or_else(|| NO_SWAP.to_owned());
        self.chronicle.notes(format_args!("   forged tags of swap {swap}"));
        let tags = BTreeMap::from([
            ("ManagedBy".to_owned(), "SpotOptimizer".to_owned()),
            ("spot-optimizer:swap".to_owned(), swap),
        ]);
        for is_spot in [false, true] {
            let Some(id) = self.fleet.stranger_launches(is_spot, &tags, now()) else { continue };
            self.oracles.is_the_owners(&id);
            if self.oracles.lab.is_some() {
                let both = (tags.clone(), tags.clone());
                let (image, snapshot) = self.fleet.make_image(&id, &format!("backup-{id}"), both, now());
                self.oracles.is_the_owners(&image);
                self.oracles.is_the_owners(&snapshot);
            }
        }
    }

    /// Returns the id of the swap whose journal is in a row.
    fn swap_in_progress(&self) -> Option<String> {
        self.tables.items(SWAPS).find_map(|row| row.get("swap_id")?.as_s().map(str::to_owned))
    }
}
