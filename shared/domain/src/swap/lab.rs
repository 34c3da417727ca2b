//! The lab swap of one stand-alone instance in a LAB account: input, refused instances, part of the journal,
//! output.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentType;
use crate::ids::{AccountId, InstanceId, InstanceType, Region};
pub use crate::old_instance::OldInstance;
use crate::own_tags::misspelt_tags;
use crate::owners::{Owner, by_node_swap, group_of, marked, tool};
use crate::reason::Reason;
use crate::settings::Settings;
use crate::swap::group::{Instance, InstanceState};
use crate::swap::journal::SwapId;
use crate::swap::report::{GateView, NotSwapped};
use crate::tags::{MAX_TAGS, inherited};

pub mod losses;

use losses::{TwinVolume, tags_of_twin_volumes_fit};

/// The input of an execution. Unknown fields are refused: a misspelt `dry_run` must not swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabSwapRequest {
    /// The instance to replace.
    pub instance_id: InstanceId,
    /// The account of the instance; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// The region of the instance; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// The launch uses an image of the old instance's EBS volumes instead of its AMI.
    #[serde(default)]
    pub capture_image: bool,
    /// The execution observes and reports, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// The execution undoes a swap that is over. The old instance starts and gets back its address and its
    /// registrations. The instance that replaced it is terminated.
    #[serde(default)]
    pub bring_back: bool,
}

/// The outcome of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LabOutcome {
    /// The newcomer serves; the old instance is stopped or terminated.
    Swapped,
    /// The swap was refused, and nothing was changed.
    Refused,
    /// The swap began, and was undone.
    RolledBack,
    /// A dry run: the swap would be tried.
    Planned,
    /// The old instance serves again, long after its swap.
    BroughtBack,
}

/// The output of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabReport {
    /// The instance that was to be replaced.
    pub instance_id: InstanceId,
    /// The instance that replaced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_instance_id: Option<InstanceId>,
    /// The outcome of the execution.
    pub outcome: LabOutcome,
    /// The reason for which the swap was refused or rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The reason in words. After a swap, the detail holds the fate of the old instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// In a dry run: everything that the new instance would not have, or would do otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<String>,
    /// In a dry run: everything that may depend on the old instance and that no swap inspects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_looked_at: Vec<String>,
    /// Absent if the gate hears of interruptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateView>,
}

/// One registration of the old instance: a target group, and the port there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The target group.
    pub target_group_arn: String,
    /// The port of the registration.
    pub port: Option<i32>,
}

/// The journal's part for a lab swap: everything that is needed to go forward or back. Each field is written
/// before the call that it announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSwap {
    /// The old instance's type when the swap began; `None` in a journal without this field.
    #[serde(default)]
    pub instance_type: Option<InstanceType>,
    /// The fate of the old instance.
    pub old_instance: OldInstance,
    /// The old instance's Elastic IP (allocation id), if it had one when the swap began.
    pub address: Option<String>,
    /// The old instance's registrations when the swap began.
    pub registrations: Vec<Registration>,
    /// The request asked for an image. The image and its snapshots are deleted at the swap's end.
    pub capture: bool,
    /// The old instance may have been deregistered.
    pub leaving: bool,
    /// The registrations (by index) that we may have ended: an undo makes these again, and no other. Empty in a journal
    /// without this field, which means all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub let_out: BTreeSet<usize>,
    /// We may have stopped the old instance: an undo starts it again.
    pub stopping: bool,
    /// The traits of the old instance when the swap began; empty in a journal without this field.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub traits: Traits,
    /// The losses that the plan names, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<String>,
    /// The time at which the image was requested. Later writes are not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_at: Option<Timestamp>,
    /// The swap was over, and its owner wants it undone. By then the newcomer's volumes are the owner's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_over: bool,
    /// The images that were made, with their snapshots, as EC2 described them.
    #[serde(default, skip_serializing_if = "Captured::is_empty")]
    pub captured: Captured,
    /// The volumes of the newcomer's launch, as EC2 described them on the newcomer.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// The newcomers that their owner has come to use, each with that use in words. An undo does not terminate them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<InstanceId, String>,
}

/// The images of a swap and their snapshots. Each was noted while EC2 described the image with the name of
/// the swap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Image ids.
    pub images: BTreeSet<String>,
    /// Snapshot ids.
    pub snapshots: BTreeSet<String>,
}

/// An image that the swap made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedImage {
    /// Its id.
    pub id: String,
    /// The snapshots in its block device mappings.
    pub snapshots: BTreeSet<String>,
}

impl Captured {
    fn is_empty(&self) -> bool {
        self.images.is_empty() && self.snapshots.is_empty()
    }

    /// Notes images, and the snapshots in their block device mappings.
    pub fn note(&mut self, images: &[CapturedImage]) {
        self.images.extend(images.iter().map(|image| image.id.clone()));
        self.snapshots.extend(images.iter().flat_map(|image| image.snapshots.iter().cloned()));
    }

    /// Returns true if the snapshot was made with one of the images.
    ///
    /// The mappings of an image that is still pending may not name the snapshot yet. EC2 itself writes the
    /// image's id into the description of each snapshot, and a description can't be changed.
    #[must_use]
    pub fn holds(&self, snapshot: &TaggedSnapshot, swap: &SwapId, old: &InstanceId) -> bool {
        let is_younger = swap
            .run_started()
            .zip(snapshot.started)
            .is_some_and(|(began, at)| at.as_second() >= began.as_second());
        let made_for = |image: &String| {
            let begins = format!("Created by CreateImage({old}) for {image}");
            let rest = snapshot.description.strip_prefix(&begins);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        is_younger && (self.snapshots.contains(&snapshot.id) || self.images.iter().any(made_for))
    }
}

/// A snapshot that bears a swap's tag, as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedSnapshot {
    /// The snapshot's id.
    pub id: String,
    /// The snapshot's description, set at its creation: by EC2 itself if the snapshot belongs to an image.
    pub description: String,
    /// The time when the snapshot began, in whole seconds.
    pub started: Option<Timestamp>,
}

/// Everything that a twin repeats of an instance, as names and values in words. Two readings of the same
/// instance are equal unless its owner has changed it.
pub type Traits = BTreeMap<String, String>;

/// An instance as a lab swap observes it: the properties that decide if a twin can take its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// The instance as every swap observes it.
    pub instance: Instance,
    /// `DisableApiTermination`.
    pub termination_protected: bool,
    /// `DisableApiStop`.
    pub stop_protected: bool,
    /// The root device is an instance store: the instance can't be stopped, and no image can be made of it.
    pub root_is_instance_store: bool,
    /// The type comes with instance-store volumes.
    pub has_instance_store: bool,
    /// A property that a twin could not have, in words: further network interfaces and the like.
    pub irreproducible: Option<String>,
    /// A target group that checks the instance and does not find it healthy.
    pub unhealthy_in: Option<String>,
    /// The instance's traits.
    pub traits: Traits,
    /// The instance's EBS volumes.
    pub volumes: Vec<TwinVolume>,
    /// The instance has user data.
    pub has_user_data: bool,
    /// Everything that no launch repeats and that causes no refusal, in words.
    pub left_behind: Vec<String>,
}

/// The loss that every lab swap names of instance-store volumes: nothing captures them.
pub const INSTANCE_STORE_IS_LOST: &str =
    "data on instance-store volumes is lost: an image holds EBS volumes only";

/// Returns why no swap is tried in this account.
#[must_use]
pub fn refused_account(request: &LabSwapRequest, environment: EnvironmentType) -> Option<NotSwapped> {
    (environment != EnvironmentType::Lab).then(|| {
        let detail = "the account is PROD: lab swaps are for LAB accounts".to_owned();
        NotSwapped::new(&request.instance_id, Reason::ProdAccount, detail)
    })
}

/// Returns why no swap of this instance is tried.
#[must_use]
pub fn refused(original: &Original, request: &LabSwapRequest, settings: &Settings) -> Option<NotSwapped> {
    refusal(original, request, settings)
        .map(|(reason, detail)| NotSwapped::new(&original.instance.id, reason, detail))
}

fn refusal(original: &Original, request: &LabSwapRequest, settings: &Settings) -> Option<(Reason, String)> {
    let instance = &original.instance;
    if instance.state == InstanceState::Dead {
        return Some((Reason::InstanceGone, "it is terminated".to_owned()));
    }
    if let Some(why) = not_ours(instance, settings) {
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

/// Returns the owner who stands against the swap, or the reason for which the instance can't be Spot.
#[must_use]
pub fn not_ours(instance: &Instance, settings: &Settings) -> Option<(Reason, String)> {
    if let Some(whose) = owned(instance) {
        return Some(whose);
    }
    if instance.is_spot {
        return Some((Reason::AlreadySpot, instance.instance_type.to_string()));
    }
    opted_out(instance, settings)
        .or_else(|| instance.bound_to.clone().map(|bound| (Reason::NotSpotCapable, bound)))
}

/// Returns why no twin can be made of the instance, or why the instance may not stop.
fn unfit(original: &Original, capture: bool) -> Option<(Reason, String)> {
    protected(original)
        .or_else(|| storage(original, capture))
        .or_else(|| original.irreproducible.clone().map(|why| (Reason::NotReproducible, why)))
        .or_else(|| too_many_tags(original, capture).map(|why| (Reason::NotReproducible, why)))
}

/// Returns the change by the owner of a running instance for which the swap must be undone.
///
/// By now the instance would be refused, or it is no longer what its twin was made from. `recovery::lab`
/// checks that the instance still runs and holds its resources. An old instance that is unhealthy by now is
/// no reason to keep it.
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
    let now = not_ours(instance, settings).or_else(|| unfit(original, began_as.capture));
    now.map(|(reason, detail)| format!("{reason}: {detail}"))
        .or_else(|| differing(&began_as.traits, &original.traits))
}

/// Returns the first trait that differs from what it was. A trait that the journal does not hold counts as
/// equal.
fn differing(then: &Traits, now: &Traits) -> Option<String> {
    let none = String::new();
    let (name, was) = then.iter().find(|(name, was)| now.get(*name).unwrap_or(&none) != *was)?;
    let said = |value: &String| if value.is_empty() { "none".to_owned() } else { value.clone() };
    Some(format!("{name} were {}, and are {}", said(was), said(now.get(name).unwrap_or(&none))))
}

/// Returns why a resource of the twin would have too many tags. EC2 counts our tags with the inherited ones,
/// and refuses the launch.
fn too_many_tags(original: &Original, capture: bool) -> Option<String> {
    let count = inherited(&original.instance.tags, "", None).len();
    if count > MAX_TAGS {
        return Some(format!(
            "its twin would carry {count} tags, ours among them, and EC2 allows {MAX_TAGS}"
        ));
    }
    tags_of_twin_volumes_fit(&original.volumes, capture).err()
}

fn opted_out(instance: &Instance, settings: &Settings) -> Option<(Reason, String)> {
    let says_so = settings.opts_out(&instance.tags).then(|| format!("tag {}", settings.opt_out_tag));
    // A misspelt tag may be meant to opt out.
    let misspelt = || misspelt_tags(&instance.tags, settings).next().map(|bad| bad.of_instance());
    says_so.or_else(misspelt).map(|detail| (Reason::OptedOut, detail))
}

/// Returns the owner that would replace the instance, or would conflict with the swap.
fn owned(instance: &Instance) -> Option<(Reason, String)> {
    if let Some(operator) = &instance.operator {
        return Some((Reason::ManagedElsewhere, format!("operated by {operator}")));
    }
    if let Some(group) = group_of(&instance.tags) {
        return Some((Reason::GroupMember, format!("Auto Scaling group {group:?}: swap the group")));
    }
    let tags = &instance.tags;
    let marked = marked(tags).or_else(|| by_node_swap(tags)).or_else(|| tool(tags))?;
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
pub(crate) mod tests;
