//! The wish behind a run: the market of the newcomers, and the members that are to be replaced.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::InstanceId;
use crate::reason::Reason;
use crate::swap::group::Instance;
use crate::swap::market::Market;

/// The members that a request names: one or more, each once, in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<InstanceId>")]
pub struct Named(Vec<InstanceId>);

/// A list of members that names none.
///
/// A script that found no member must not swap the whole group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("names no instance: name one or more, or leave the field out to choose among all members")]
pub struct NamesNone;

impl TryFrom<Vec<InstanceId>> for Named {
    type Error = NamesNone;

    fn try_from(ids: Vec<InstanceId>) -> Result<Self, NamesNone> {
        let mut seen = std::collections::BTreeSet::new();
        let ids: Vec<InstanceId> = ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
        if ids.is_empty() { Err(NamesNone) } else { Ok(Self(ids)) }
    }
}

impl Named {
    /// Returns the list of one member.
    #[must_use]
    pub fn one(id: &InstanceId) -> Self {
        Self(vec![id.clone()])
    }

    /// Returns the members beside those that are done with; `None` if none is left.
    #[must_use]
    pub fn without(&self, done: &BTreeSet<&InstanceId>) -> Option<Self> {
        let left: Vec<InstanceId> = self.0.iter().filter(|id| !done.contains(id)).cloned().collect();
        Self::try_from(left).ok()
    }

    /// Returns the members.
    #[must_use]
    pub fn ids(&self) -> &[InstanceId] {
        &self.0
    }
}

/// The wish of a request: which members become candidates, and for which market.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The market of the newcomers.
    pub to: Market,
    /// The members that the request names; `None` for all members that are not in that market yet.
    pub replace: Option<Named>,
}

impl Asked {
    /// Returns the reason for which an instance stays in its market.
    ///
    /// A Spot instance is replaced by Spot only if the request names it: another pool may keep it longer.
    #[must_use]
    pub fn keeps(&self, instance: &Instance) -> Option<Reason> {
        match (instance.market(), self.to) {
            (Market::Spot, Market::Spot) if !self.names(&instance.id) => Some(Reason::AlreadySpot),
            (Market::OnDemand, Market::OnDemand) => Some(Reason::AlreadyOnDemand),
            _ => None,
        }
    }

    /// Returns true if the request asks for the replacement of the instance: by its name, or as one of its market.
    #[must_use]
    pub fn concerns(&self, instance: &Instance) -> bool {
        (self.replace.is_none() || self.names(&instance.id)) && self.keeps(instance).is_none()
    }

    fn names(&self, id: &InstanceId) -> bool {
        self.replace.as_ref().is_some_and(|named| named.ids().contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::group::tests::{id, on_demand};

    fn spot(n: u32) -> Instance {
        Instance { is_spot: true, ..on_demand(n) }
    }

    #[test]
    fn without_a_name_only_the_other_market_is_concerned() {
        let to_spot = Asked::default();
        assert!(to_spot.concerns(&on_demand(1)));
        assert_eq!(to_spot.keeps(&spot(1)), Some(Reason::AlreadySpot));
        let back = Asked { to: Market::OnDemand, replace: None };
        assert!(back.concerns(&spot(1)));
        assert_eq!(back.keeps(&on_demand(1)), Some(Reason::AlreadyOnDemand));
    }

    #[test]
    fn a_name_makes_a_spot_member_a_candidate_and_leaves_the_others_alone() {
        let asked = Asked { to: Market::Spot, replace: Some(Named::one(&id(1))) };
        assert!(asked.concerns(&spot(1)) && asked.concerns(&on_demand(1)));
        assert!(!asked.concerns(&spot(2)) && !asked.concerns(&on_demand(2)));
        let back = Asked { to: Market::OnDemand, ..asked };
        assert!(back.concerns(&spot(1)) && !back.concerns(&spot(2)));
        assert_eq!(back.keeps(&on_demand(1)), Some(Reason::AlreadyOnDemand), "nothing is gained");
    }

    #[test]
    fn a_list_of_members_names_each_once_and_never_nobody() {
        let named = Named::try_from(vec![id(2), id(1), id(2)]).unwrap();
        assert_eq!(named.ids(), [id(2), id(1)]);
        let error = serde_json::from_str::<Named>("[]").unwrap_err().to_string();
        assert!(error.contains("names no instance") && error.contains("leave the field out"), "{error}");
    }
}
