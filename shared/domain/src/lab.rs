//! The lab swap: one stand-alone instance of a LAB account. What is asked for, which instances are
//! refused, what the journal holds of such a swap, and what comes out of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentType;
use crate::group::{Instance, InstanceState};
use crate::ids::{AccountId, InstanceId, InstanceType, Region};
use crate::lab_losses::{TwinVolume, tags_of_twin_volumes_fit};
use crate::owners::{Owner, group_of, marked};
use crate::reason::Reason;
use crate::settings::Settings;
use crate::swap::{GateView, Left};
use crate::tags::{MAX_TAGS, inherited};

/// The input of an execution. Unknown fields are refused: a misspelt `dry_run` must not swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabSwapRequest {
    /// The instance to replace.
    pub instance_id: InstanceId,
    /// The account it lies in; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// The region it lies in; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// Launch from an image of the old instance's EBS volumes instead of from its AMI.
    #[serde(default)]
    pub capture_image: bool,
    /// Look and report, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// The newcomer serves; the old instance is stopped or terminated.
    Swapped,
    /// Nothing was changed.
    Refused,
    /// Something was begun, and put back.
    RolledBack,
    /// A dry run: it would be tried.
    Planned,
}

/// The output of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabReport {
    /// The instance that was to be replaced.
    pub instance_id: InstanceId,
    /// What replaced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_instance_id: Option<InstanceId>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was refused or rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for a person; after a swap, what became of the old instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// In a dry run: what the new instance would not have, or would do otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<String>,
    /// In a dry run: what may depend on the old instance and is not looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_looked_at: Vec<String>,
    /// Absent where the gate hears of interruptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateView>,
}

/// What becomes of the old instance once the newcomer serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldInstance {
    /// It is stopped: its disks stay (and cost), and it can be started again.
    #[default]
    Stop,
    /// It is terminated, with every volume that is deleted on termination.
    Terminate,
}

/// One registration of the old instance: a target group, and the port there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The target group.
    pub target_group_arn: String,
    /// The port that it is registered with.
    pub port: Option<i32>,
}

/// What the journal holds of a lab swap beside what every swap has: all that is needed to move things
/// forward or back, each written before the call that it speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSwap {
    /// The old instance's type when the swap began; `None` in a journal that does not tell.
    #[serde(default)]
    pub instance_type: Option<InstanceType>,
    /// How the old instance ends.
    pub old_instance: OldInstance,
    /// Its Elastic IP (the allocation id), if it had one when the swap began.
    pub address: Option<String>,
    /// Where it was registered when the swap began.
    pub registrations: Vec<Registration>,
    /// An image was asked for: it and its snapshots bear the swap's tag, and go with the swap.
    pub capture: bool,
    /// The old instance may have been deregistered.
    pub leaving: bool,
    /// The old instance may have been stopped by us: an undo starts it again.
    pub stopping: bool,
    /// The traits of the old instance when the swap began; empty in a journal that does not tell.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub traits: Traits,
    /// What the newcomer would not have, in words, as the plan names it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<String>,
    /// When the image was asked for: what was written since is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_at: Option<Timestamp>,
}

/// What a twin repeats of an instance, or what would keep it from being one: a name and a value for a person.
/// Two readings of the same instance are equal unless its owner has changed it.
pub type Traits = BTreeMap<String, String>;

/// An instance as a lab swap looks at it: what decides whether a twin can take its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// As every swap sees it.
    pub instance: Instance,
    /// `DisableApiTermination`.
    pub termination_protected: bool,
    /// `DisableApiStop`.
    pub stop_protected: bool,
    /// Its root device is an instance store: it can't be stopped, and no image can be made of it.
    pub root_is_instance_store: bool,
    /// Its type comes with instance-store volumes.
    pub has_instance_store: bool,
    /// What a twin could not have, in words: further network interfaces and the like.
    pub irreproducible: Option<String>,
    /// A target group checks it, and does not find it healthy.
    pub unhealthy_in: Option<String>,
    /// What a twin repeats of it.
    pub traits: Traits,
    /// Its EBS volumes.
    pub volumes: Vec<TwinVolume>,
    /// It has user data.
    pub has_user_data: bool,
    /// What no launch repeats and no refusal is due to, in words.
    pub left_behind: Vec<String>,
}

/// What every lab swap says of instance-store volumes: nothing captures them.
pub const INSTANCE_STORE_IS_LOST: &str =
    "data on instance-store volumes is lost: an image holds EBS volumes only";

/// Why a swap is not even tried in this account.
#[must_use]
pub fn refused_account(request: &LabSwapRequest, environment: EnvironmentType) -> Option<Left> {
    (environment != EnvironmentType::Lab).then(|| {
        let detail = "the account is PROD: lab swaps are for LAB accounts".to_owned();
        Left::new(&request.instance_id, Reason::ProdAccount, detail)
    })
}

/// Why a swap of this instance is not even tried.
#[must_use]
pub fn refused(original: &Original, request: &LabSwapRequest, settings: &Settings) -> Option<Left> {
    refusal(original, request, settings)
        .map(|(reason, detail)| Left::new(&original.instance.id, reason, detail))
}

fn refusal(original: &Original, request: &LabSwapRequest, settings: &Settings) -> Option<(Reason, String)> {
    let instance = &original.instance;
    if instance.state == InstanceState::Dead {
        return Some((Reason::InstanceGone, "it is terminated".to_owned()));
    }
    if let Some(why) = not_ours(original, settings) {
        return Some(why);
    }
    if instance.state != InstanceState::Running {
        return Some((Reason::NotInService, "EC2 says that it is not running".to_owned()));
    }
    if let Some(group) = &original.unhealthy_in {
        return Some((Reason::NotInService, format!("it is not healthy in target group {group}")));
    }
    unfit(original, request.capture_image)
}

/// Somebody else's, or not for Spot.
fn not_ours(original: &Original, settings: &Settings) -> Option<(Reason, String)> {
    let instance = &original.instance;
    if let Some(whose) = owned(instance) {
        return Some(whose);
    }
    if instance.is_spot {
        return Some((Reason::AlreadySpot, instance.instance_type.to_string()));
    }
    opted_out(instance, settings)
        .or_else(|| instance.bound_to.clone().map(|bound| (Reason::NotSpotCapable, bound)))
}

/// No twin can be made of it, or it may not stop.
fn unfit(original: &Original, capture: bool) -> Option<(Reason, String)> {
    protected(original)
        .or_else(|| storage(original, capture))
        .or_else(|| original.irreproducible.clone().map(|why| (Reason::NotReproducible, why)))
        .or_else(|| too_many_tags(original, capture).map(|why| (Reason::NotReproducible, why)))
}

/// What the owner of a running instance has done since its swap began, so that the swap must be undone: by now
/// it would be refused, or it is no longer what its twin was made from. Whether it still runs, and holds what it
/// held, `lab_recovery` looks at. That it is unhealthy by now is no reason to keep it.
#[must_use]
pub fn changed(original: &Original, began_as: &LabSwap, settings: &Settings) -> Option<String> {
    let instance = &original.instance;
    if instance.state != InstanceState::Running {
        return None;
    }
    let kind = began_as.instance_type.as_ref().filter(|kind| **kind != instance.instance_type);
    if let Some(kind) = kind {
        return Some(format!("it was a {kind}, and is a {}", instance.instance_type));
    }
    let now = not_ours(original, settings).or_else(|| unfit(original, began_as.capture));
    now.map(|(reason, detail)| format!("{reason}: {detail}"))
        .or_else(|| differing(&began_as.traits, &original.traits))
}

/// The first trait that is no longer what it was, in words. A journal that tells none is believed.
fn differing(then: &Traits, now: &Traits) -> Option<String> {
    if then.is_empty() {
        return None;
    }
    let none = "none".to_owned();
    let mut names = then.keys().chain(now.keys());
    let name = names.find(|name| then.get(*name) != now.get(*name))?;
    let (then, now) = (then.get(name).unwrap_or(&none), now.get(name).unwrap_or(&none));
    Some(format!("{name} were {then}, and are {now}"))
}

/// EC2 counts our two tags with those that the twin or its volumes inherit, and refuses the launch.
fn too_many_tags(original: &Original, capture: bool) -> Option<String> {
    let count = inherited(&original.instance.tags, "").len();
    if count > MAX_TAGS {
        return Some(format!(
            "its twin would carry {count} tags, two of them ours, and EC2 allows {MAX_TAGS}"
        ));
    }
    tags_of_twin_volumes_fit(&original.volumes, capture).err()
}

fn opted_out(instance: &Instance, settings: &Settings) -> Option<(Reason, String)> {
    let says_so = settings.opts_out(&instance.tags);
    says_so.then(|| (Reason::OptedOut, format!("tag {}", settings.opt_out_tag)))
}

/// Somebody else would put another in its place, or fight for it.
fn owned(instance: &Instance) -> Option<(Reason, String)> {
    if let Some(operator) = &instance.operator {
        return Some((Reason::ManagedElsewhere, format!("operated by {operator}")));
    }
    if let Some(group) = group_of(&instance.tags) {
        return Some((Reason::GroupMember, format!("Auto Scaling group {group:?}: swap the group")));
    }
    let marked = marked(&instance.tags)?;
    let is_node = marked.owner == Owner::Kubernetes;
    let reason = if is_node { Reason::KubernetesNode } else { Reason::ManagedElsewhere };
    Some((reason, marked.detail()))
}

fn protected(original: &Original) -> Option<(Reason, String)> {
    if original.termination_protected {
        return Some((Reason::TerminationProtected, "DisableApiTermination is on".to_owned()));
    }
    original.stop_protected.then(|| (Reason::StopProtected, "DisableApiStop is on".to_owned()))
}

fn storage(original: &Original, capture: bool) -> Option<(Reason, String)> {
    if original.root_is_instance_store {
        let why = "its root device is an instance store: it can't be stopped, nor an image be made of it";
        return Some((Reason::InstanceStore, why.to_owned()));
    }
    (original.has_instance_store && !capture).then(|| {
        let kind = &original.instance.instance_type;
        let why = format!(
            "{kind} has instance-store volumes; {INSTANCE_STORE_IS_LOST}. `capture_image: true` \
             takes the EBS volumes along and accepts that loss"
        );
        (Reason::InstanceStore, why)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::group::tests::on_demand;
    use crate::tags::{GROUP_NAME_TAG, Tags};

    pub(crate) fn original(tags: &[(&str, &str)]) -> Original {
        let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Tags>();
        let instance = Instance { az_id: None, tags, ..on_demand(1) };
        Original {
            instance,
            termination_protected: false,
            stop_protected: false,
            root_is_instance_store: false,
            has_instance_store: false,
            irreproducible: None,
            unhealthy_in: None,
            traits: Traits::from([("security groups".to_owned(), "sg-1".to_owned())]),
            volumes: vec![],
            has_user_data: false,
            left_behind: vec![],
        }
    }

    fn began(original: &Original) -> LabSwap {
        LabSwap {
            instance_type: Some("m5.large".parse().unwrap()),
            old_instance: OldInstance::Stop,
            address: None,
            registrations: vec![],
            capture: false,
            leaving: false,
            stopping: false,
            traits: original.traits.clone(),
            losses: vec![],
            captured_at: None,
        }
    }

    fn request(capture_image: bool) -> LabSwapRequest {
        let instance_id = "i-0123456789abcdef0".parse().unwrap();
        LabSwapRequest { instance_id, account_id: None, region: None, capture_image, dry_run: false }
    }

    fn reason(original: &Original, capture: bool) -> Option<Reason> {
        refused(original, &request(capture), &Settings::default()).map(|left| left.reason)
    }

    #[test]
    fn an_ordinary_lab_instance_is_not_refused() {
        assert_eq!(reason(&original(&[("Name", "bench"), ("team", "lab")]), false), None);
        assert_eq!(refused_account(&request(false), EnvironmentType::Lab), None);
    }

    #[test]
    fn a_prod_account_is_refused_by_name() {
        let left = refused_account(&request(false), EnvironmentType::Prod).unwrap();
        assert_eq!(left.reason, Reason::ProdAccount);
    }

    #[test]
    fn whose_it_is_decides_even_where_the_tag_is_empty() {
        let cases = [
            (GROUP_NAME_TAG, Reason::GroupMember),
            ("kubernetes.io/cluster/prod", Reason::KubernetesNode),
            ("aws:eks:cluster-name", Reason::KubernetesNode),
            ("eks:cluster-name", Reason::KubernetesNode),
            ("karpenter.sh/nodepool", Reason::KubernetesNode),
            ("k8s.io/role/node", Reason::KubernetesNode),
            ("aws:ec2:fleet-id", Reason::ManagedElsewhere),
            ("AWSApplicationMigrationServiceManaged", Reason::ManagedElsewhere),
            ("AWSElasticDisasterRecoveryManaged", Reason::ManagedElsewhere),
            ("spot-optimizer:opt-out", Reason::OptedOut),
        ];
        for (tag, expected) in cases {
            assert_eq!(reason(&original(&[(tag, "")]), true), Some(expected), "{tag}");
        }
        assert_eq!(reason(&original(&[("spot-optimizer:opt-out", "false")]), false), None);
    }

    #[test]
    fn what_could_not_be_put_back_or_taken_along_is_refused() {
        type Change = fn(&mut Original);
        let cases: [(Change, Reason); 10] = [
            (|o| o.instance.state = InstanceState::Dead, Reason::InstanceGone),
            (|o| o.instance.state = InstanceState::Stopped, Reason::NotInService),
            (|o| o.instance.is_spot = true, Reason::AlreadySpot),
            (|o| o.instance.operator = Some("a service".into()), Reason::ManagedElsewhere),
            (|o| o.instance.bound_to = Some("a host".into()), Reason::NotSpotCapable),
            (|o| o.termination_protected = true, Reason::TerminationProtected),
            (|o| o.stop_protected = true, Reason::StopProtected),
            (|o| o.root_is_instance_store = true, Reason::InstanceStore),
            (|o| o.irreproducible = Some("two interfaces".into()), Reason::NotReproducible),
            (|o| o.unhealthy_in = Some("web".into()), Reason::NotInService),
        ];
        for (change, expected) in cases {
            let mut changed = original(&[]);
            change(&mut changed);
            assert_eq!(reason(&changed, true), Some(expected));
        }
    }

    #[test]
    fn what_its_owner_does_during_the_swap_undoes_it() {
        let began_as = began(&original(&[]));
        let said = |original: &Original| changed(original, &began_as, &Settings::default());
        assert_eq!(said(&original(&[("team", "lab")])), None);
        for (tag, code) in [
            (GROUP_NAME_TAG, "GROUP_MEMBER"),
            ("kubernetes.io/cluster/prod", "KUBERNETES_NODE"),
            ("spot-optimizer:opt-out", "OPTED_OUT"),
        ] {
            assert!(said(&original(&[(tag, "x")])).unwrap().starts_with(code), "{tag}");
        }
        let mut other = original(&[]);
        other.instance.instance_type = "m5.xlarge".parse().unwrap();
        assert!(said(&other).unwrap().contains("m5.xlarge"));
        other.instance.state = InstanceState::Stopped;
        assert_eq!(said(&other), None, "that is lab_recovery's to judge");
        let mut kept = original(&[]);
        kept.stop_protected = true;
        assert!(said(&kept).unwrap().starts_with("STOP_PROTECTED"));
    }

    #[test]
    fn whatever_would_be_refused_at_the_start_undoes_it() {
        type Change = fn(&mut Original);
        let began_as = began(&original(&[]));
        let cases: [(Change, &str); 7] = [
            (|o| o.irreproducible = Some("2 network interfaces".into()), "NOT_REPRODUCIBLE: 2 network"),
            (|o| o.instance.bound_to = Some("a host".into()), "NOT_SPOT_CAPABLE"),
            (|o| o.instance.operator = Some("a service".into()), "MANAGED_ELSEWHERE"),
            (|o| o.termination_protected = true, "TERMINATION_PROTECTED"),
            (|o| o.has_instance_store = true, "INSTANCE_STORE"),
            (|o| o.instance.tags = tags(50), "NOT_REPRODUCIBLE: its twin would carry 52 tags"),
            (
                |o| drop(o.traits.insert("security groups".into(), "sg-9".into())),
                "security groups were sg-1, and are sg-9",
            ),
        ];
        for (change, expected) in cases {
            let mut changed_since = original(&[("team", "lab")]);
            change(&mut changed_since);
            let said = changed(&changed_since, &began_as, &Settings::default()).unwrap();
            assert!(said.starts_with(expected), "{said}");
        }
    }

    #[test]
    fn what_is_no_owners_act_undoes_nothing() {
        let mut began_as = began(&original(&[]));
        let mut ailing = original(&[("written", "meanwhile")]);
        ailing.unhealthy_in = Some("web".into());
        assert_eq!(changed(&ailing, &began_as, &Settings::default()), None, "the newcomer serves better");
        began_as.traits.clear();
        assert_eq!(changed(&ailing, &began_as, &Settings::default()), None, "an older journal tells none");
    }

    fn tags(count: usize) -> Tags {
        (0..count).map(|n| (format!("key-{n}"), String::new())).collect()
    }

    #[test]
    fn tags_that_would_not_fit_are_refused_and_reserved_ones_do_not_count() {
        let mut full = original(&[]);
        full.instance.tags = tags(MAX_TAGS - 2);
        full.instance.tags.insert("aws:cloudformation:stack-name".into(), "lab".into());
        assert_eq!(reason(&full, false), None);
        full.instance.tags.insert("one".into(), "more".into());
        assert_eq!(reason(&full, false), Some(Reason::NotReproducible));
    }

    #[test]
    fn an_instance_store_needs_consent_and_the_refusal_promises_nothing() {
        let mut scratch = original(&[]);
        scratch.has_instance_store = true;
        let left = refused(&scratch, &request(false), &Settings::default()).unwrap();
        assert_eq!(left.reason, Reason::InstanceStore);
        assert!(left.detail.contains("an image holds EBS volumes only"), "{}", left.detail);
        assert_eq!(reason(&scratch, true), None);
    }

    #[test]
    fn the_sample_input_is_one_and_nonsense_is_refused_by_name() {
        let sample = include_str!("../../../events/lab-swap-input.json");
        let request: LabSwapRequest = serde_json::from_str(sample).unwrap();
        assert!(!request.capture_image && request.dry_run);
        let cases = [
            ("{}", "missing field `instance_id`"),
            (r#"{"instance_id":"web"}"#, "instance id"),
            (r#"{"instance_id":"i-0123456789abcdef0","dryrun":true}"#, "unknown field `dryrun`"),
            (r#"{"instance_id":"i-0123456789abcdef0","capture_image":1}"#, "expected a boolean"),
        ];
        for (input, expected) in cases {
            let error = serde_json::from_str::<LabSwapRequest>(input).unwrap_err().to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }
}
