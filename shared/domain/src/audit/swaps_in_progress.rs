//! The swaps in progress in one account and region, as far as they bear on the audit. A row of Swaps only claims
//! that a swap replaces an instance: any caller that can write the table can write the claim. The swap's newcomer
//! proves the claim. EC2 keeps the ClientToken of its launch, which names the swap and so the old instance, and
//! which no caller can write later.

use std::collections::BTreeMap;

use crate::audit::subject::Subject;
use crate::ids::InstanceId;
use crate::swap::journal::SwapId;

/// The claim of a row of Swaps that a swap replaces an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    row: String,
    swap_id: SwapId,
    is_proven: bool,
}

impl Claim {
    /// Says for a person what the row claims, and the way out.
    #[must_use]
    pub fn unproven(&self) -> String {
        format!(
            "the row {} of Swaps says that swap {} replaces it, and EC2 shows no newcomer of that swap; look at the execution that \
             the row's `lease_owner` names: if there is none, delete the row; if there is one, the reconciler ends the swap",
            self.row, self.swap_id
        )
    }
}

/// The claims of all rows, by the instance that a row calls replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwapsInProgress {
    claims: BTreeMap<InstanceId, Vec<Claim>>,
}

impl SwapsInProgress {
    /// Adds the claim of the row with this key. The claim counts for nothing until [`prove`](Self::prove) has seen
    /// the newcomer.
    pub fn claim(&mut self, row: String, swap_id: SwapId, old: InstanceId) {
        self.claims.entry(old).or_default().push(Claim { row, swap_id, is_proven: false });
    }

    /// Returns the swaps whose newcomers the audit has to find.
    pub fn swap_ids(&self) -> impl Iterator<Item = &SwapId> {
        self.claims.values().flatten().map(|claim| &claim.swap_id)
    }

    /// Notes a living instance as the newcomer of each swap that launched it.
    pub fn prove(&mut self, living: &Subject) {
        for (old, claims) in &mut self.claims {
            for claim in claims {
                claim.is_proven |= claim.swap_id.is_of(old) && living.was_launched_by(&claim.swap_id);
            }
        }
    }

    /// Returns true if a newcomer proves that a swap replaces the instance.
    #[must_use]
    pub fn replace(&self, id: &InstanceId) -> bool {
        self.claims.get(id).is_some_and(|claims| claims.iter().any(|claim| claim.is_proven))
    }

    /// Returns a claim on the instance, if there are claims and none is proven.
    #[must_use]
    pub fn unproven(&self, id: &InstanceId) -> Option<&Claim> {
        self.claims.get(id).filter(|_| !self.replace(id))?.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWAP: &str = "i-0123456789abcdef0-1700000000000";

    fn old() -> InstanceId {
        "i-0123456789abcdef0".parse().unwrap()
    }

    fn claimed(swap_id: &str, old: InstanceId) -> SwapsInProgress {
        let mut swaps = SwapsInProgress::default();
        swaps.claim("row".to_owned(), swap_id.parse().unwrap(), old);
        swaps
    }

    fn living(token: &str) -> Subject {
        Subject {
            id: "i-00000000000000002".parse().unwrap(),
            tags: [("spot-optimizer:swap".to_owned(), SWAP.to_owned())].into(),
            is_spot: true,
            operator: None,
            client_token: Some(token.to_owned()),
        }
    }

    #[test]
    fn a_row_alone_replaces_nothing() {
        let swaps = claimed(SWAP, old());
        assert!(!swaps.replace(&old()));
        let said = swaps.unproven(&old()).unwrap().unproven();
        assert!(said.contains(SWAP) && said.contains("the row row of Swaps"), "{said}");
        assert_eq!(swaps.swap_ids().map(SwapId::as_str).collect::<Vec<_>>(), [SWAP]);
    }

    #[test]
    fn the_newcomer_of_the_swap_proves_it_and_nothing_else_does() {
        let mut swaps = claimed(SWAP, old());
        let on_demand = Subject { is_spot: false, ..living(&format!("{SWAP}-0")) };
        let tokenless = Subject { client_token: None, ..living("") };
        for other in [living("mine"), living(SWAP), living(&format!("{SWAP}1-0")), on_demand, tokenless] {
            swaps.prove(&other);
            assert!(!swaps.replace(&old()), "{other:?}");
        }
        swaps.prove(&living(&format!("{SWAP}-3")));
        assert!(swaps.replace(&old()) && swaps.unproven(&old()).is_none());
    }

    /// The swap and its newcomer are real; the instance that the row names is another one than the swap replaces.
    #[test]
    fn a_real_newcomer_vouches_for_the_old_instance_of_its_own_swap_alone() {
        let other: InstanceId = "i-00000000000000009".parse().unwrap();
        let mut swaps = claimed(SWAP, other.clone());
        swaps.prove(&living(&format!("{SWAP}-0")));
        assert!(!swaps.replace(&other) && !swaps.replace(&old()));
        assert!(swaps.unproven(&other).is_some());
    }

    #[test]
    fn a_forged_row_takes_nothing_from_a_swap_that_is_proven() {
        let mut swaps = claimed(SWAP, old());
        swaps.claim("forged".to_owned(), "i-0123456789abcdef0-1".parse().unwrap(), old());
        swaps.prove(&living(&format!("{SWAP}-0")));
        assert!(swaps.replace(&old()) && swaps.unproven(&old()).is_none());
    }
}
