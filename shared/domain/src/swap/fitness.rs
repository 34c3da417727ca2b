//! Fitness of a group: the check that a swap can be honest at all. The check reads the group, its lifecycle hooks
//! and its tags before the lease is acquired. `selection` says which members can be swapped.

use crate::owners::{Marked, Owner, service_of_group};
use crate::settings::Settings;
use crate::swap::group::Group;
use crate::swap::group_tags::{BadTag, GroupTags, IGNORE_LAUNCH_HOOKS_TAG};
use crate::tags::{SWAP_TAG, Tags};

/// The transition for which a lifecycle hook runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// The group launches an instance. The hook never runs for an instance that is attached.
    Launching,
    /// The group terminates an instance. The hook never runs for an instance that is detached.
    Terminating,
    /// A transition that is not known here.
    Other(String),
}

impl Transition {
    /// Parses AWS's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "autoscaling:EC2_INSTANCE_LAUNCHING" => Self::Launching,
            "autoscaling:EC2_INSTANCE_TERMINATING" => Self::Terminating,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A lifecycle hook of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The hook's name.
    pub name: String,
    /// The transition for which the hook runs.
    pub transition: Transition,
    /// The longest time that an instance may wait for the hook, in seconds, all heartbeats included
    /// (`GlobalTimeout`).
    pub global_timeout_seconds: u32,
}

/// CodeDeploy's own hook, by which it deploys to the instances that the group launches.
/// <https://docs.aws.amazon.com/codedeploy/latest/userguide/integrations-aws-auto-scaling.html>
const CODEDEPLOY_HOOK: &str = "CodeDeploy-managed-automatic-launch-deployment-hook";

/// The hook of the managed draining of an ECS capacity provider. It stays if the tag `AmazonECSManaged` is removed from the
/// group, by a tool that knows nothing of it.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/managed-instance-draining.html>
const ECS_DRAINING_HOOK: &str = "ecs-managed-draining";

/// Returns why no member of this group can be swapped, in words with the way out.
///
/// # Errors
/// A tag of the group can't be read, or its key is misspelt.
pub fn unfit(group: &Group, hooks: &[Hook], settings: &Settings) -> Result<Option<String>, BadTag> {
    let tags = GroupTags::of(&group.tags, settings)?;
    Ok(group
        .unsupported()
        .or_else(|| filled_by(&group.tags))
        .or_else(|| hooks.iter().find_map(drained_by_ecs))
        .or_else(|| hooks.iter().find_map(|hook| missed(hook, &tags)))
        .or_else(|| overwritten(&group.propagated_tags, &tags))
        .or_else(|| retained(group, hooks)))
}

/// Returns why a service or tool that works on the whole group stands against a swap. Such a one does not use an instance
/// that it did not launch, or swaps the instances itself.
fn filled_by(tags: &Tags) -> Option<String> {
    match service_of_group(tags)? {
        Marked { owner: Owner::GroupService(name), key } => {
            Some(format!("tag {key}: it is filled by {name}"))
        }
        _ => None,
    }
}

/// Returns why the hook of an ECS capacity provider stands against a swap.
fn drained_by_ecs(hook: &Hook) -> Option<String> {
    let name = &hook.name;
    name.starts_with(ECS_DRAINING_HOOK).then(|| {
        format!(
            "its hook {name} is of an Amazon ECS capacity provider, which places no task on an attached instance; \
             if there is none any more, delete the hook"
        )
    })
}

/// Returns why a launching hook stands against a swap: an attached instance would miss it.
fn missed(hook: &Hook, tags: &GroupTags) -> Option<String> {
    let name = &hook.name;
    let what = match &hook.transition {
        Transition::Terminating => return None,
        Transition::Launching if tags.ignores_launch_hooks => return None,
        Transition::Launching if name.starts_with(CODEDEPLOY_HOOK) => {
            format!(
                "CodeDeploy deploys by its launching hook {name}, which does not run for an attached instance"
            )
        }
        Transition::Launching => format!("its launching hook {name} does not run for an attached instance"),
        Transition::Other(when) => {
            return Some(format!("its hook {name} runs at {when}, which is not known here"));
        }
    };
    Some(format!("{what}; tag {IGNORE_LAUNCH_HOOKS_TAG}=true on the group consents to that"))
}

/// Returns why a tag that the group propagates stands against a swap. The attach puts such tags on the
/// newcomer, over ours.
fn overwritten(propagated: &Tags, tags: &GroupTags) -> Option<String> {
    if propagated.contains_key(SWAP_TAG) {
        let why = "by which a replacement is known; remove that from the group";
        return Some(format!("it propagates a tag {SWAP_TAG}, {why}"));
    }
    let ready = tags.ready_tag.as_ref().filter(|ready| propagated.contains_key(ready.key()))?;
    Some(format!("it propagates the tag {}, which is to say that an instance is ready", ready.key()))
}

/// Returns why the group stands against a swap if it retains instances. An old instance whose hook fails
/// would stay for ever, where nothing counts it.
fn retained(group: &Group, hooks: &[Hook]) -> Option<String> {
    let hook = hooks.iter().find(|hook| hook.transition == Transition::Terminating)?;
    group.retains_abandoned.then(|| {
        let name = &hook.name;
        format!(
            "it keeps instances whose terminating hook {name} is abandoned (TerminateHookAbandon: retain)"
        )
    })
}

/// Returns the longest time that the terminating hooks of a group may take, in seconds; 0 without a hook.
#[must_use]
pub fn terminating_seconds(hooks: &[Hook]) -> u32 {
    let terminating = hooks.iter().filter(|hook| hook.transition == Transition::Terminating);
    terminating.map(|hook| hook.global_timeout_seconds).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owners::MARKS;
    use crate::swap::group::tests::group_of;
    use crate::swap::group_tags::READY_TAG;

    fn hook(name: &str, transition: &str) -> Hook {
        Hook { name: name.into(), transition: Transition::parse(transition), global_timeout_seconds: 3_600 }
    }

    fn why(tags: &[(&str, &str)], hooks: &[Hook]) -> Option<String> {
        let mut group = group_of(1);
        group.tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        judged(&group, hooks).unwrap()
    }

    fn judged(group: &Group, hooks: &[Hook]) -> Result<Option<String>, BadTag> {
        unfit(group, hooks, &Settings::default())
    }

    const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";

    #[test]
    fn an_ordinary_group_is_fit_with_its_terminating_hooks() {
        assert_eq!(why(&[("team", "web")], &[hook("drain", "autoscaling:EC2_INSTANCE_TERMINATING")]), None);
    }

    #[test]
    fn a_launching_hook_needs_its_owners_consent() {
        let bootstrap = [hook("bootstrap", LAUNCHING)];
        let refused = why(&[], &bootstrap).unwrap();
        assert!(refused.contains("launching hook bootstrap") && refused.contains(IGNORE_LAUNCH_HOOKS_TAG));
        assert!(why(&[(IGNORE_LAUNCH_HOOKS_TAG, "false")], &bootstrap).is_some());
        assert_eq!(why(&[(IGNORE_LAUNCH_HOOKS_TAG, "true")], &bootstrap), None);
        let codedeploy = [hook(&format!("{CODEDEPLOY_HOOK}-shop"), LAUNCHING)];
        assert!(why(&[], &codedeploy).unwrap().starts_with("CodeDeploy"));
    }

    #[test]
    fn a_capacity_provider_is_known_by_its_hook_once_its_tag_is_gone() {
        let draining =
            [hook("ecs-managed-draining-termination-hook", "autoscaling:EC2_INSTANCE_TERMINATING")];
        assert!(why(&[], &draining).unwrap().contains("ECS"));
        let consented = why(&[(IGNORE_LAUNCH_HOOKS_TAG, "true")], &draining);
        assert!(consented.is_some(), "the consent is to launching hooks alone");
        let own = [hook("drain-ecs-managed", "autoscaling:EC2_INSTANCE_TERMINATING")];
        assert_eq!(why(&[], &own), None);
    }

    #[test]
    fn a_hook_of_a_kind_that_is_not_known_is_refused_even_with_consent() {
        let new = [hook("rotate", "autoscaling:EC2_INSTANCE_REBALANCING")];
        assert!(why(&[(IGNORE_LAUNCH_HOOKS_TAG, "true")], &new).unwrap().contains("rotate"));
    }

    #[test]
    fn a_service_that_fills_the_group_is_named() {
        for (tag, name) in [
            ("AmazonECSManaged", "ECS"),
            ("elasticbeanstalk:environment-id", "Elastic Beanstalk"),
            ("elasticbeanstalk:environment-name", "Elastic Beanstalk"),
        ] {
            for value in ["", "true", "e-abcdefgh12"] {
                assert!(why(&[(tag, value)], &[]).unwrap().contains(name), "{tag}={value}");
            }
        }
        for (tag, name) in
            [("spot-enabled", "AutoSpotting"), ("xosphere.io/instance-orchestrator/enabled", "Xosphere")]
        {
            assert!(why(&[(tag, "true")], &[]).unwrap().contains(name), "{tag}");
            assert_eq!(why(&[(tag, "false")], &[]), None, "{tag}");
        }
        let refuses = |owner: Owner| matches!(owner, Owner::GroupService(_));
        for mark in MARKS.iter().filter(|mark| !refuses(mark.owner) && !mark.tag.contains('=')) {
            assert_eq!(
                why(&[(&mark.tag.replace('*', "x"), "x")], &[]),
                None,
                "{}: its members are skipped",
                mark.tag
            );
        }
    }

    #[test]
    fn our_own_mark_must_not_be_overwritten() {
        let mut group = group_of(1);
        group.propagated_tags.insert(SWAP_TAG.into(), "mine".into());
        assert!(judged(&group, &[]).unwrap().unwrap().contains(SWAP_TAG));
    }

    #[test]
    fn an_instance_that_a_failed_hook_would_keep_for_ever_is_not_begun_with() {
        let mut group = group_of(1);
        group.retains_abandoned = true;
        assert_eq!(judged(&group, &[]).unwrap(), None, "without a hook nothing is abandoned");
        let drain = [hook("drain", "autoscaling:EC2_INSTANCE_TERMINATING")];
        assert!(judged(&group, &drain).unwrap().unwrap().contains("drain"));
    }

    #[test]
    fn a_ready_tag_that_the_group_itself_puts_on_is_refused() {
        let mut group = group_of(1);
        group.tags.insert(READY_TAG.into(), "ready=yes".into());
        assert_eq!(judged(&group, &[]).unwrap(), None);
        group.propagated_tags.insert("ready".into(), "yes".into());
        assert!(judged(&group, &[]).unwrap().unwrap().contains("ready"));
    }

    #[test]
    fn a_node_group_of_ecs_is_still_filled_by_ecs() {
        assert!(why(&[("k8s.io/role/node", "1"), ("AmazonECSManaged", "")], &[]).unwrap().contains("ECS"));
    }

    #[test]
    fn a_malformed_wish_is_an_error() {
        let mut group = group_of(1);
        group.tags.insert(IGNORE_LAUNCH_HOOKS_TAG.into(), "maybe".into());
        assert_eq!(judged(&group, &[]).unwrap_err().tag, IGNORE_LAUNCH_HOOKS_TAG);
        let mut misspelt = group_of(1);
        misspelt.tags.insert("spot-optimizer:ignore_launch_hooks".into(), "true".into());
        assert_eq!(judged(&misspelt, &[]).unwrap_err().tag, "spot-optimizer:ignore_launch_hooks");
    }

    #[test]
    fn the_longest_terminating_hook_counts() {
        let long =
            Hook { global_timeout_seconds: 172_800, ..hook("ecs", "autoscaling:EC2_INSTANCE_TERMINATING") };
        let launching = Hook { global_timeout_seconds: 200_000, ..hook("boot", LAUNCHING) };
        assert_eq!(
            terminating_seconds(&[hook("x", "autoscaling:EC2_INSTANCE_TERMINATING"), long, launching]),
            172_800
        );
        assert_eq!(terminating_seconds(&[]), 0);
    }
}
