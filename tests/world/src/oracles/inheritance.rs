//! What an instance of ours bears from its launch: the tags of the instance that it replaces, our mark and its swap.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Oracles;
use super::before_call::{SEEN_AFTER, renew};
use crate::fleet::{Ec2Instance, Ec2State, Fleet};

const MANAGED_BY: (&str, &str) = ("ManagedBy", "SpotOptimizer");
/// The tag that names the swap. Each swap has its own.
const SWAP_TAG: &str = "spot-optimizer:swap";

type Tags = BTreeMap<String, String>;

/// Since when each tag of an instance stands, by instance, key and value.
#[derive(Debug, Clone, Default)]
pub struct StandingTags(BTreeMap<(String, String, String), Timestamp>);

impl StandingTags {
    /// Returns the tags of instances that have long borne them.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        Self(tags_of_instances(fleet).map(|tag| (tag, Timestamp::MIN)).collect())
    }

    /// Notes the tags that somebody has set or taken away.
    pub fn look(&mut self, fleet: &Fleet) {
        renew(&mut self.0, tags_of_instances(fleet));
    }

    /// Returns the tags that an instance has borne since before that time.
    fn before(&self, instance: &Ec2Instance, at: Timestamp) -> Tags {
        let stands = |key: &String, value: &String| {
            let tag = (instance.id.clone(), key.clone(), value.clone());
            self.0.get(&tag).is_some_and(|since| *since < at)
        };
        let tags = instance.tags.iter().filter(|(key, value)| stands(key, value));
        tags.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

fn tags_of_instances(fleet: &Fleet) -> impl Iterator<Item = (String, String, String)> {
    fleet
        .instances()
        .values()
        .flat_map(|one| one.tags.iter().map(move |(key, value)| (one.id.clone(), key.clone(), value.clone())))
}

/// Returns the swap that a ClientToken of ours names, and the instance that the swap replaces. A token is
/// `<instance>-<milliseconds>-<attempt>`.
pub(super) fn swap_of(token: &str) -> Option<(&str, &str)> {
    let (swap, _attempt) = token.rsplit_once('-')?;
    let (old, _began) = swap.rsplit_once('-')?;
    old.starts_with("i-").then_some((swap, old))
}

/// Returns the instances that a call has launched.
pub(super) fn launched<'a>(before: &Fleet, after: &'a Fleet) -> impl Iterator<Item = &'a Ec2Instance> {
    after.instances().values().filter(move |instance| !before.instances().contains_key(&instance.id))
}

impl Oracles {
    /// Asks what must hold after a launch of ours. A swap to Spot or to On-Demand inherits alike. In a LAB, EC2 takes one set of
    /// tags for the volumes, too. A tag that was set shortly before the launch may not show to it.
    pub(super) fn after_inheritance(&mut self, sent_at: Timestamp, before: &Fleet, after: &Fleet) {
        for newcomer in launched(before, after) {
            let Some((swap, old)) = swap_of(&newcomer.client_token) else {
                self.holds(false, || {
                    format!("{} was launched with ClientToken {:?}", newcomer.id, newcomer.client_token)
                });
                continue;
            };
            // EC2 forgets an instance that has ended.
            let Some(old) = before.instances().get(old) else { continue };
            let tags = self.tags.before(old, sent_at - SEEN_AFTER);
            let lacking = lacking_tag(&tags, &newcomer.tags, swap);
            self.holds(lacking.is_none(), || {
                format!("{} replaces {} without its tag {lacking:?}", newcomer.id, old.id)
            });
            // EC2 shows no volume of an instance that has ended.
            if self.lab.is_some() && old.state != Ec2State::Terminated {
                let lacking = lacking_tag(&old.volume_tags, &newcomer.volume_tags, swap);
                self.holds(lacking.is_none(), || {
                    format!("the volume of {} lacks the tag {lacking:?} of that of {}", newcomer.id, old.id)
                });
            }
        }
    }
}

/// Returns the first tag that a replacement in this swap should have, and has not.
fn lacking_tag(old: &Tags, new: &Tags, swap: &str) -> Option<(String, String)> {
    let is_inherited = |key: &str| !key.starts_with("aws:") && ![MANAGED_BY.0, SWAP_TAG].contains(&key);
    let inherited = old.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let wanted = inherited.filter(|(key, _)| is_inherited(key)).chain([MANAGED_BY, (SWAP_TAG, swap)]);
    let mut missing = wanted.filter(|(key, value)| new.get(*key).map(String::as_str) != Some(*value));
    missing.next().map(|(key, value)| (key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::fault::Plan;
    use crate::scene::Scene;
    use crate::virtual_time::BEGIN;
    use crate::wire::ApiCall;

    fn tags<const N: usize>(tags: [(&str, &str); N]) -> Tags {
        tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn a_replacement_lacks_what_the_old_one_had_and_what_marks_it() {
        let old = tags([("team", "web"), ("aws:autoscaling:groupName", "web"), ("ManagedBy", "terraform")]);
        let ours = [("ManagedBy", "SpotOptimizer"), (SWAP_TAG, "i-2-7")];
        let missing = |new: &Tags| lacking_tag(&old, new, "i-2-7").map(|(key, _)| key);
        assert_eq!(missing(&tags([("team", "web"), ours[0], ours[1]])), None);
        assert_eq!(missing(&tags([ours[0], ours[1]])).as_deref(), Some("team"));
        assert_eq!(missing(&tags([("team", "api"), ours[0], ours[1]])).as_deref(), Some("team"));
        assert_eq!(missing(&tags([("team", "web"), ours[1]])).as_deref(), Some("ManagedBy"));
        let of_another = (SWAP_TAG, "i-2-6");
        assert_eq!(missing(&tags([("team", "web"), ours[0], of_another])).as_deref(), Some(SWAP_TAG));
    }

    #[test]
    fn a_token_names_swap_and_old_instance() {
        assert_eq!(swap_of("i-0a-17-3"), Some(("i-0a-17", "i-0a")));
        assert_eq!(swap_of("i-0a-17-d3"), Some(("i-0a-17", "i-0a")));
        for foreign in ["", "token", "fleet-7", "i-0a-17"] {
            assert_eq!(swap_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_volume_of_a_twin_bears_the_tags_of_that_of_the_old_one() {
        let scene = Scene::of_instance();
        let swap = format!("{}-1795000000000", scene.first_instance());
        for (backup, is_broken) in [("daily", false), ("never", true)] {
            let mut world = scene.world(Plan::none());
            let tags = |n: u8, kind: &str, (key, value): (&str, &str)| {
                let own = [MANAGED_BY, (SWAP_TAG, swap.as_str()), (key, value)];
                let told = (1..).zip(own).map(|(at, (key, value))| {
                    format!(
                        "&TagSpecification.{n}.Tag.{at}.Key={key}&TagSpecification.{n}.Tag.{at}.Value={value}"
                    )
                });
                format!("&TagSpecification.{n}.ResourceType={kind}{}", told.collect::<String>())
            };
            let body = format!(
                "Action=RunInstances&MinCount=1&MaxCount=1&InstanceType=m5.large&ImageId=ami-0a000001\
                 &ClientToken={swap}-0&SubnetId=subnet-0a000001&InstanceMarketOptions.MarketType=spot{}{}",
                tags(1, "instance", ("Name", "lab")),
                tags(2, "volume", ("backup", backup))
            );
            let call = ApiCall::parse("ec2", "us-east-1", None, body.as_bytes()).unwrap();
            let before = world.fleet.clone();
            let answer = world.fleet.carry_out(&call, BEGIN);
            assert_eq!(answer.status, 200, "{answer:?}");
            world.oracles.after_inheritance(BEGIN, &before, &world.fleet);
            let broken = world.oracles.broken.as_deref();
            assert_eq!(broken.is_some_and(|told| told.contains("the volume of")), is_broken, "{broken:?}");
        }
    }
}
