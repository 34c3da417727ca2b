//! The lab swap: one stand-alone instance of a LAB account. What is asked for, which instances are
//! refused, what the journal holds of such a swap, and what comes out of it.

use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentType;
use crate::group::{Instance, InstanceState};
use crate::ids::{AccountId, InstanceId, InstanceType, Region};
use crate::owners::{Owner, group_of, marked};
use crate::reason::Reason;
use crate::settings::Settings;
use crate::swap::{GateView, Left};

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
}

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
    if let Some(whose) = owned(instance) {
        return Some(whose);
    }
    if instance.is_spot {
        return Some((Reason::AlreadySpot, instance.instance_type.to_string()));
    }
    if let Some(opted_out) = opted_out(instance, settings) {
        return Some(opted_out);
    }
    if let Some(bound) = &instance.bound_to {
        return Some((Reason::NotSpotCapable, bound.clone()));
    }
    if instance.state != InstanceState::Running {
        return Some((Reason::NotInService, "EC2 says that it is not running".to_owned()));
    }
    if let Some(group) = &original.unhealthy_in {
        return Some((Reason::NotInService, format!("it is not healthy in target group {group}")));
    }
    protected(original)
        .or_else(|| storage(original, request))
        .or_else(|| original.irreproducible.clone().map(|why| (Reason::NotReproducible, why)))
}

/// What the owner of a running instance has done since its swap began, so that the swap must be undone:
/// by now it would be refused, or it is of another type than its twin. Whether it still runs, and holds
/// what it held, `lab_recovery` looks at.
#[must_use]
pub fn changed(original: &Original, began_as: Option<&InstanceType>, settings: &Settings) -> Option<String> {
    let instance = &original.instance;
    if instance.state != InstanceState::Running {
        return None;
    }
    if let Some(began_as) = began_as.filter(|began_as| **began_as != instance.instance_type) {
        return Some(format!("it was a {began_as}, and is a {}", instance.instance_type));
    }
    let now = owned(instance).or_else(|| opted_out(instance, settings)).or_else(|| protected(original));
    now.map(|(reason, detail)| format!("{reason}: {detail}"))
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

fn storage(original: &Original, request: &LabSwapRequest) -> Option<(Reason, String)> {
    if original.root_is_instance_store {
        let why = "its root device is an instance store: it can't be stopped, nor an image be made of it";
        return Some((Reason::InstanceStore, why.to_owned()));
    }
    (original.has_instance_store && !request.capture_image).then(|| {
        let kind = &original.instance.instance_type;
        let why = format!(
            "{kind} has instance-store volumes; {INSTANCE_STORE_IS_LOST}. `capture_image: true` \
             takes the EBS volumes along and accepts that loss"
        );
        (Reason::InstanceStore, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::tests::on_demand;
    use crate::tags::{GROUP_NAME_TAG, Tags};

    fn original(tags: &[(&str, &str)]) -> Original {
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
        let began_as = "m5.large".parse().unwrap();
        let said = |original: &Original| changed(original, Some(&began_as), &Settings::default());
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
