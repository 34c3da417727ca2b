//! The proof that an instance is a swap's newcomer. A journal or a tag only claims it. The ClientToken of the
//! launch, as EC2 shows it, proves it. No caller can write the token later, and the token names the old instance,
//! too.

use crate::ids::{GroupName, InstanceId};
use crate::swap::group::Instance;
use crate::swap::journal::{Journal, SwapId};

/// The evidence of a swap's newcomer, as EC2 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A launch of the swap made the instance.
    Proven(Box<Instance>),
    /// The journal names the instance, and EC2 shows no such instance: it ended an hour ago or earlier, or never
    /// existed.
    Forgotten(InstanceId),
    /// The journal names no newcomer, and EC2 shows none that the swap launched.
    Nothing,
}

/// The journal names an instance that no launch of its swap made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the journal names instance {newcomer} as the newcomer of swap {swap_id}, and the ClientToken of its launch is not that \
     swap's; find out who wrote the row, then delete its attributes `journal`, `stage`, `revision` and `swap_id`"
)]
pub struct Unproven {
    pub newcomer: InstanceId,
    /// The swap of the journal.
    pub swap_id: SwapId,
}

impl Evidence {
    /// Finds the newcomer among the described instances that the journal names or the swap launched.
    ///
    /// # Errors
    /// The journal names an instance that something else launched.
    pub fn find(journal: &Journal, described: Vec<Instance>) -> Result<Self, Unproven> {
        let swap_id = &journal.swap_id;
        let Some(named) = &journal.newcomer else {
            let launched = described.into_iter().filter(|instance| instance.was_launched_by(swap_id));
            let newest = launched.max_by_key(Instance::is_alive);
            return Ok(newest.map_or(Self::Nothing, |instance| Self::Proven(Box::new(instance))));
        };
        match described.into_iter().find(|instance| &instance.id == named) {
            None => Ok(Self::Forgotten(named.clone())),
            Some(instance) if instance.was_launched_by(swap_id) => Ok(Self::Proven(Box::new(instance))),
            Some(_) => Err(Unproven { newcomer: named.clone(), swap_id: swap_id.clone() }),
        }
    }

    /// Returns the newcomer's id, dead or alive.
    #[must_use]
    pub fn id(&self) -> Option<&InstanceId> {
        match self {
            Self::Proven(instance) => Some(&instance.id),
            Self::Forgotten(id) => Some(id),
            Self::Nothing => None,
        }
    }

    /// Returns the newcomer, if EC2 shows it.
    #[must_use]
    pub fn instance(&self) -> Option<&Instance> {
        match self {
            Self::Proven(instance) => Some(instance),
            Self::Forgotten(_) | Self::Nothing => None,
        }
    }

    /// Returns true if the newcomer carries its group's own tag, which only a detach takes away. EC2 shows no tags of one that
    /// has ended some minutes ago: then it does if a look has shown it in its group. One that EC2 has forgotten counts as
    /// tagged.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html>
    #[must_use]
    pub fn has_group_tag(&self, group: &GroupName, journal: &Journal) -> bool {
        let lost_its_tags = |it: &Instance| !it.is_alive() && it.tags.is_empty();
        self.instance()
            .is_none_or(|it| it.has_group_tag(group) || (lost_its_tags(it) && journal.newcomer_joined))
    }

    /// Returns true if the newcomer is pending or running.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.instance().is_some_and(Instance::is_alive)
    }
}

/// Says that a resource was left alone because it only bears the swap's tag.
#[must_use]
pub fn left_alone(kind: &str, id: &str) -> String {
    format!(
        "{kind} {id} bears the tag of this swap, and nothing proves that the swap made it: it was left alone"
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::swap::group::InstanceState;
    use crate::swap::group::tests::{id, on_demand};
    use crate::swap::journal::{Retirement, SwapKind};
    use crate::tags::{SWAP_TAG, Tags};

    fn journal(newcomer: Option<InstanceId>) -> Journal {
        Journal {
            newcomer,
            ..Journal::new(&id(1), Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group)
        }
    }

    fn spot(n: u32, token: &str) -> Instance {
        let mut instance = Instance { is_spot: true, client_token: Some(token.to_owned()), ..on_demand(n) };
        instance.tags.insert(SWAP_TAG.to_owned(), journal(None).swap_id.to_string());
        instance
    }

    fn launched(n: u32) -> Instance {
        spot(n, &journal(None).swap_id.client_token(3))
    }

    #[test]
    fn what_only_bears_the_tag_is_no_newcomer() {
        let mut on_demand = launched(4);
        on_demand.is_spot = false;
        let tokenless = Instance { client_token: None, ..launched(5) };
        let tagged = vec![spot(2, "somebody's own"), spot(3, ""), on_demand, tokenless];
        assert_eq!(Evidence::find(&journal(None), tagged), Ok(Evidence::Nothing));
    }

    #[test]
    fn a_newcomer_without_the_tag_is_found_and_a_living_one_first() {
        let mut untagged = launched(3);
        untagged.tags.clear();
        let dead = Instance { state: InstanceState::Dead, ..launched(2) };
        let found = Evidence::find(&journal(None), vec![untagged, dead.clone()]).unwrap();
        assert!(found.is_alive() && found.id() == Some(&id(3)));
        let found = Evidence::find(&journal(None), vec![dead]).unwrap();
        assert!(!found.is_alive() && found.id() == Some(&id(2)));
    }

    #[test]
    fn a_dead_newcomer_without_tags_was_in_the_group_in_which_a_look_has_shown_it() {
        let web: GroupName = "web".parse().unwrap();
        let ended = Instance { state: InstanceState::Dead, tags: Tags::default(), ..launched(2) };
        let detached = Instance { state: InstanceState::Dead, ..launched(2) };
        for (newcomer, if_joined) in [(ended, true), (detached, false), (launched(2), false)] {
            for newcomer_joined in [false, true] {
                let journal = Journal { newcomer_joined, ..journal(Some(id(2))) };
                let found = Evidence::find(&journal, vec![newcomer.clone()]).unwrap();
                assert_eq!(found.has_group_tag(&web, &journal), newcomer_joined && if_joined, "{newcomer:?}");
            }
        }
    }

    #[test]
    fn an_instance_that_the_journal_names_needs_the_proof_too() {
        let named = journal(Some(id(2)));
        assert!(Evidence::find(&named, vec![on_demand(1), launched(2)]).unwrap().is_alive());
        let victim = Evidence::find(&named, vec![on_demand(1), spot(2, "somebody's own")]).unwrap_err();
        assert!(victim.to_string().contains(id(2).as_str()), "{victim}");
        assert_eq!(Evidence::find(&named, vec![on_demand(1)]), Ok(Evidence::Forgotten(id(2))));
    }

    #[test]
    fn the_newcomer_of_another_swap_is_not_this_ones() {
        let other = Journal::new(&id(9), Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
        let others = spot(2, &other.swap_id.client_token(0));
        assert!(Evidence::find(&journal(Some(id(2))), vec![others]).is_err());
    }
}
