//! The rules that decide if a running instance is authorised. An instance with one of the marks below belongs to
//! us, to an Auto Scaling group, or to an AWS service that needs it.
//!
//! Marks compare by exact case, and an empty value authorises nothing. `ManagedBy=SpotOptimizer` is the one mark
//! that any caller may write and that is ours to prove: see `LaunchProof`.

use std::fmt;

use crate::audit::swaps_in_progress::SwapsInProgress;
use crate::ids::InstanceId;
use crate::owners::{FLEET_TAG, MARKS, group_of};
use crate::swap::journal::SwapId;
use crate::tags::{GROUP_NAME_TAG, MANAGED_BY, SWAP_TAG, Tags};

/// The mark of a managed node group's members. It authorises under any settings.
pub const NODE_GROUP_TAG: &str = "eks:cluster-name";

/// A tag by which an owner marks its instances. `key` means that key with any value but an empty one, `key=value`
/// exactly that value. `prefix*` means every key that begins so, with any value but an empty one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OwnerMark {
    key: String,
    value: Option<String>,
}

impl OwnerMark {
    /// Parses `key`, `key=value` or `prefix*`.
    ///
    /// # Errors
    /// The text is no mark; the error says why. A mark that no tag of an instance can match is an error, too: its
    /// author believes that it protects something.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        if key.is_empty() || key.chars().count() > 128 || key.trim() != key {
            return Err(format!("{text:?} is no owner mark: expected key, key=value or prefix*"));
        }
        if key == "*" {
            return Err(format!("{text:?} is no owner mark: it would authorise everything that has a tag"));
        }
        if value.is_some_and(|value| value.is_empty() || value.chars().count() > 256) {
            return Err(format!(
                "{text:?}: the value is empty or too long: an empty value authorises nothing"
            ));
        }
        match unmatchable(key, value) {
            Some(why) => Err(format!("{text:?} can match nothing: {why}")),
            None => Ok(Self { key: key.to_owned(), value: value.map(str::to_owned) }),
        }
    }

    /// Returns the default marks, those of `owners`. They hold unless the settings list others.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        MARKS.iter().filter_map(|mark| Self::parse(mark.tag).ok()).collect()
    }

    /// Returns true if one of the tags bears the mark, with a value that is not empty. Our own mark is no owner's:
    /// a launch of ours has to be proven.
    #[must_use]
    pub fn is_on(&self, tags: &Tags) -> bool {
        let counts = |key: &str, value: &str| !value.is_empty() && (key, value) != MANAGED_BY;
        if let Some(prefix) = self.key.strip_suffix('*') {
            return tags.iter().any(|(key, value)| key.starts_with(prefix) && counts(key, value));
        }
        tags.get(&self.key).is_some_and(|found| match &self.value {
            Some(value) => found == value && counts(&self.key, found),
            None => counts(&self.key, found),
        })
    }

    /// Returns true if every instance with a tag of this key bears the mark.
    pub(crate) fn is_on_every(&self, key: &str) -> bool {
        self.value.is_none() && self.key.strip_suffix('*').map_or(self.key == key, |p| key.starts_with(p))
    }
}

/// Returns the reason why no tag matches, in words.
fn unmatchable(key: &str, value: Option<&str>) -> Option<&'static str> {
    let (stem, is_prefix) = key.strip_suffix('*').map_or((key, false), |stem| (stem, true));
    if stem.contains('*') || value.is_some_and(|value| value.contains('*')) {
        return Some("an asterisk stands for the rest of a key, at its end only");
    }
    if is_prefix && value.is_some() {
        return Some("a prefix takes no value: name the whole key");
    }
    if key.to_ascii_lowercase().starts_with("aws:") && !key.starts_with("aws:") {
        return Some("AWS writes aws: in small letters, and lets nobody else write it");
    }
    if value.is_some_and(|value| (key, value) == MANAGED_BY) {
        return Some("it is our own mark, which counts where a launch of ours is proven");
    }
    None
}

/// The tags that the settings of an account and region trust.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// The tags that authorise an instance: the setting `owner_marks`.
    pub owner_marks: &'a [OwnerMark],
    /// The tags of which a member of an Auto Scaling group must bear one: the setting `group_marks`. If the
    /// setting is empty, every group authorises its members.
    pub group_marks: &'a [OwnerMark],
}

impl Trust<'_> {
    fn trusts_group_of(&self, tags: &Tags) -> bool {
        self.group_marks.is_empty() || self.group_marks.iter().any(|mark| mark.is_on(tags))
    }

    /// Returns the owner's mark on `tags`. Auto Scaling launches the members of a mixed-instances group through
    /// EC2 Fleet. If not every group is trusted, the fleet authorises no member, unless a mark names that very
    /// fleet.
    fn mark_of_owner(&self, tags: &Tags) -> Option<&OwnerMark> {
        let mut owners = tags.clone();
        if !self.group_marks.is_empty() && group_of(tags).is_some() {
            owners.remove(FLEET_TAG);
        }
        let is_on = |mark: &&OwnerMark| mark.is_on(&owners) || (mark.value.is_some() && mark.is_on(tags));
        self.owner_marks.iter().find(is_on)
    }
}

impl fmt::Display for OwnerMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// The description of an instance by EC2, as far as it bears on the authorisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub id: InstanceId,
    pub tags: Tags,
    /// True if the lifecycle is Spot, which only a launch can set.
    pub is_spot: bool,
    /// The AWS service that operates the instance (`Operator.Managed`).
    pub operator: Option<String>,
    /// The ClientToken of the launch. The launcher set it once, and nobody can change it.
    pub client_token: Option<String>,
}

impl Subject {
    /// Returns true if a launch of the swap made the instance: the launcher launches Spot only, with a ClientToken
    /// of the swap.
    #[must_use]
    pub fn was_launched_by(&self, swap_id: &SwapId) -> bool {
        self.is_spot && self.client_token.as_deref().is_some_and(|token| swap_id.has_token(token))
    }
}

/// The proof that a swap of ours launched an instance that says so.
///
/// Any caller with the permission can write tags and rows. The proof is an instance that carries the swap's id in
/// `spot-optimizer:swap`, is Spot, and has a ClientToken of that swap from its launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaunchProof {
    Proven,
    Unproven(&'static str),
}

fn launched_by_us(subject: &Subject) -> LaunchProof {
    let Some(swap_id) = subject.tags.get(SWAP_TAG).and_then(|id| id.parse::<SwapId>().ok()) else {
        return LaunchProof::Unproven("no spot-optimizer:swap tag with the id of a swap");
    };
    if !subject.is_spot {
        return LaunchProof::Unproven("it is not Spot, and no swap launches anything else");
    }
    if subject.was_launched_by(&swap_id) {
        return LaunchProof::Proven;
    }
    LaunchProof::Unproven("its launch bears no ClientToken of the swap in its tag")
}

/// The verdict on an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// The instance is authorised: by the mark, or by the service.
    Authorised(String),
    /// A swap of ours is replacing the instance right now, as its newcomer proves, and will terminate it by
    /// itself.
    BeingReplaced,
    /// The instance bears our mark and nothing proves it; the text says why not. A person has to check.
    Suspicious(&'static str),
    /// Nothing authorises the instance.
    Unauthorised,
}

/// Judges one instance.
#[must_use]
pub fn standing(subject: &Subject, trust: Trust<'_>, swaps: &SwapsInProgress) -> Authorization {
    if let Some(operator) = &subject.operator {
        return Authorization::Authorised(format!("operated by {operator}"));
    }
    let has = |key| subject.tags.get(key).is_some_and(|value| !value.is_empty());
    if has(GROUP_NAME_TAG) && trust.trusts_group_of(&subject.tags) {
        return Authorization::Authorised(GROUP_NAME_TAG.to_owned());
    }
    if has(NODE_GROUP_TAG) {
        return Authorization::Authorised(NODE_GROUP_TAG.to_owned());
    }
    if let Some(mark) = trust.mark_of_owner(&subject.tags) {
        return Authorization::Authorised(mark.to_string());
    }
    let claims_to_be_ours = subject.tags.get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1);
    if claims_to_be_ours {
        return match launched_by_us(subject) {
            LaunchProof::Proven => Authorization::Authorised("ManagedBy=SpotOptimizer".to_owned()),
            LaunchProof::Unproven(why) => Authorization::Suspicious(why),
        };
    }
    if swaps.replace(&subject.id) {
        return Authorization::BeingReplaced;
    }
    Authorization::Unauthorised
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWAP: &str = "i-0123456789abcdef0-1700000000000";

    fn tagged(tags: &[(&str, &str)]) -> Subject {
        Subject {
            id: "i-00000000000000001".parse().unwrap(),
            tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            is_spot: false,
            operator: None,
            client_token: None,
        }
    }

    const NO_MARKS: Trust<'_> = Trust { owner_marks: &[], group_marks: &[] };

    fn marks(list: &[&str]) -> Vec<OwnerMark> {
        list.iter().map(|mark| OwnerMark::parse(mark).unwrap()).collect()
    }

    fn judged(subject: &Subject) -> Authorization {
        let owner_marks = OwnerMark::defaults();
        let trust = Trust { owner_marks: &owner_marks, group_marks: &[] };
        standing(subject, trust, &SwapsInProgress::default())
    }

    fn newcomer(token: Option<&str>) -> Subject {
        Subject {
            is_spot: true,
            client_token: token.map(str::to_owned),
            ..tagged(&[("ManagedBy", "SpotOptimizer"), (SWAP_TAG, SWAP)])
        }
    }

    #[test]
    fn every_default_mark_can_be_read_and_authorises() {
        assert_eq!(OwnerMark::defaults().len(), MARKS.len());
        for mark in MARKS.iter().map(|mark| mark.tag).chain([GROUP_NAME_TAG, NODE_GROUP_TAG]) {
            let (key, value) = mark.split_once('=').unwrap_or((mark, "x"));
            let key = key.replace('*', "y");
            assert!(matches!(judged(&tagged(&[(&key, value)])), Authorization::Authorised(_)), "{mark}");
            assert_eq!(judged(&tagged(&[(&key, "")])), Authorization::Unauthorised, "{mark} without a value");
        }
    }

    #[test]
    fn case_and_emptiness_authorise_nothing() {
        for tag in [
            ("AWS:autoscaling:groupName", "web"),
            ("aws:autoscaling:groupname", "web"),
            ("aws:autoscaling:groupName", ""),
            ("eks:cluster-name", ""),
            ("EKS:Cluster-Name", "prod"),
            ("aws:eks:cluster-name", ""),
            ("managedby", "SpotOptimizer"),
            ("ManagedBy", "spotoptimizer"),
            ("ManagedBy", "terraform"),
            ("CreatedBy", "ec2 image builder"),
            ("AWSBatchServiceTag", "other"),
            ("Name", "web"),
        ] {
            assert_eq!(judged(&tagged(&[tag])), Authorization::Unauthorised, "{tag:?}");
        }
        assert_eq!(judged(&tagged(&[])), Authorization::Unauthorised);
    }

    #[test]
    fn what_an_aws_service_operates_is_its_own() {
        let subject = Subject { operator: Some("eks.amazonaws.com".into()), ..tagged(&[]) };
        assert_eq!(judged(&subject), Authorization::Authorised("operated by eks.amazonaws.com".into()));
    }

    #[test]
    fn a_group_and_a_node_group_authorise_without_any_mark() {
        for key in [GROUP_NAME_TAG, NODE_GROUP_TAG] {
            let standing = standing(&tagged(&[(key, "x")]), NO_MARKS, &SwapsInProgress::default());
            assert!(matches!(standing, Authorization::Authorised(_)), "{key}");
        }
    }

    #[test]
    fn a_newcomer_is_proven_by_the_token_of_its_launch() {
        assert!(matches!(judged(&newcomer(Some(&format!("{SWAP}-0")))), Authorization::Authorised(_)));
        for token in [None, Some(""), Some(SWAP), Some("i-0123456789abcdef0-1700000000001-0"), Some("ABCDE")]
        {
            assert!(matches!(judged(&newcomer(token)), Authorization::Suspicious(_)), "{token:?}");
        }
    }

    /// Any caller that can write the table can write the row. The newcomer of a real swap bears the token of its
    /// launch.
    #[test]
    fn a_row_of_swaps_proves_no_newcomer() {
        let mut swaps = SwapsInProgress::default();
        swaps.claim("forged".into(), SWAP.parse().unwrap(), "i-0123456789abcdef0".parse().unwrap());
        let judged = |token: Option<&str>| standing(&newcomer(token), NO_MARKS, &swaps);
        assert!(matches!(judged(None), Authorization::Suspicious(_)));
        assert!(matches!(judged(Some("mine")), Authorization::Suspicious(_)));
        assert!(matches!(judged(Some(&format!("{SWAP}-0"))), Authorization::Authorised(_)));
    }

    #[test]
    fn our_mark_on_what_no_swap_launched_is_suspicious() {
        let token = format!("{SWAP}-0");
        let on_demand = Subject { is_spot: false, ..newcomer(Some(&token)) };
        let mut untagged = newcomer(Some(&token));
        untagged.tags.remove(SWAP_TAG);
        let mut nonsense = newcomer(Some("mine-0"));
        nonsense.tags.insert(SWAP_TAG.into(), "mine".into());
        for subject in [on_demand, untagged, nonsense, tagged(&[("ManagedBy", "SpotOptimizer")])] {
            assert!(matches!(judged(&subject), Authorization::Suspicious(_)), "{subject:?}");
        }
    }

    #[test]
    fn another_owner_dispels_the_suspicion() {
        let member = tagged(&[("ManagedBy", "SpotOptimizer"), (GROUP_NAME_TAG, "web")]);
        assert!(matches!(judged(&member), Authorization::Authorised(_)));
    }

    #[test]
    fn what_a_swap_is_replacing_is_left_to_the_swap_once_its_newcomer_proves_it() {
        let old = Subject { id: "i-0123456789abcdef0".parse().unwrap(), ..tagged(&[]) };
        let mut swaps = SwapsInProgress::default();
        swaps.claim("row".into(), SWAP.parse().unwrap(), old.id.clone());
        assert_eq!(standing(&old, NO_MARKS, &swaps), Authorization::Unauthorised);
        swaps.prove(&newcomer(Some(&format!("{SWAP}-0"))));
        assert_eq!(standing(&old, NO_MARKS, &swaps), Authorization::BeingReplaced);
    }

    #[test]
    fn a_malformed_mark_is_refused() {
        for text in ["", "=x", "team=", " team", "team "] {
            assert!(OwnerMark::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(OwnerMark::parse("team=a=b").unwrap().value.as_deref(), Some("a=b"));
    }

    #[test]
    fn a_mark_that_no_tag_can_match_is_refused_by_name() {
        for (text, why) in [
            ("team/*=payments", "a prefix takes no value"),
            ("te*m", "at its end only"),
            ("*/cluster", "at its end only"),
            ("team**", "at its end only"),
            ("team=pay*", "at its end only"),
            ("AWS:autoscaling:groupName", "AWS writes aws: in small letters"),
            ("Aws:*", "AWS writes aws: in small letters"),
            ("ManagedBy=SpotOptimizer", "our own mark"),
        ] {
            let error = OwnerMark::parse(text).unwrap_err();
            assert!(
                error.contains(text) && error.contains("can match nothing") && error.contains(why),
                "{error}"
            );
        }
        for text in ["kubernetes.io/cluster/*", "team", "team=payments", "aws:pcs:*", "ManagedBy=terraform"] {
            assert!(OwnerMark::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn no_mark_of_an_owner_stands_in_for_the_proof_of_a_launch() {
        for mark in ["ManagedBy", "Man*", "ManagedBy*"] {
            let owner_marks = marks(&[mark]);
            let trust = Trust { owner_marks: &owner_marks, ..NO_MARKS };
            let forged = tagged(&[("ManagedBy", "SpotOptimizer")]);
            let judged = standing(&forged, trust, &SwapsInProgress::default());
            assert!(matches!(judged, Authorization::Suspicious(_)), "{mark}: {judged:?}");
            let theirs = standing(&tagged(&[("ManagedBy", "terraform")]), trust, &SwapsInProgress::default());
            assert!(matches!(theirs, Authorization::Authorised(_)), "{mark}");
        }
    }

    /// Tags that services and clusters write, and tags that only look so.
    #[test]
    fn instances_of_clusters_and_services_are_theirs_and_near_misses_nobodys() {
        for tag in [
            ("kubernetes.io/cluster/shop-x7k2p", "owned"),
            ("kubernetes.io/cluster/shop-x7k2p", "shared"),
            ("KubernetesCluster", "kops.example.org"),
            ("k8s.io/role/control-plane", "1"),
            ("sigs.k8s.io/cluster-api-provider-aws/role", "control-plane"),
            ("api.openshift.com/id", "24vg6o424djht8h6lpoli2urg69t7vnt"),
            ("AWSRDSCustom", "custom-oracle"),
            ("awsbackup-restore-test", "plan-1"),
            ("CreatedBy", "EC2 Fast Launch"),
            ("aws:pcs:compute-node-group-id", "pcs_1"),
            ("parallelcluster:cluster-name", "hpc"),
            ("AmazonEVSManaged", "true"),
        ] {
            assert!(matches!(judged(&tagged(&[tag])), Authorization::Authorised(_)), "{tag:?}");
        }
        for tag in [
            ("kubernetes.io/cluster/shop", ""),
            ("kubernetes.io", "owned"),
            ("Kubernetes.io/cluster/shop", "owned"),
            ("x-kubernetes.io/cluster/shop", "owned"),
            ("kubernetescluster", "shop"),
            ("AWSRDSCustom", ""),
            ("awsrdscustom", "custom-oracle"),
            ("awsbackup-restore-tests", "plan-1"),
            ("CreatedBy", "ec2 fast launch"),
            ("CreatedBy", "EC2 Fast Launch 2"),
            ("pcs:compute-node-group-id", "pcs_1"),
        ] {
            assert_eq!(judged(&tagged(&[tag])), Authorization::Unauthorised, "{tag:?}");
        }
    }

    #[test]
    fn where_only_marked_groups_are_trusted_a_group_alone_authorises_nothing() {
        let group_marks = marks(&["team", "aws:autoscaling:groupName=legacy"]);
        let judge = |tags: &[(&str, &str)]| {
            let owner_marks = OwnerMark::defaults();
            let trust = Trust { owner_marks: &owner_marks, group_marks: &group_marks };
            standing(&tagged(tags), trust, &SwapsInProgress::default())
        };
        let member = (GROUP_NAME_TAG, "gpu-9f2c");
        assert_eq!(judge(&[member]), Authorization::Unauthorised);
        assert_eq!(judge(&[member, ("team", "")]), Authorization::Unauthorised);
        for more in [("team", "ml"), ("eks:cluster-name", "prod"), ("kubernetes.io/cluster/shop", "owned")] {
            assert!(matches!(judge(&[member, more]), Authorization::Authorised(_)), "{more:?}");
        }
        assert!(matches!(judge(&[(GROUP_NAME_TAG, "legacy")]), Authorization::Authorised(_)));
        assert_eq!(judge(&[("team", "ml")]), Authorization::Unauthorised, "it is in no group");
    }

    /// Auto Scaling launches the members of a mixed-instances group through EC2 Fleet.
    #[test]
    fn the_fleet_that_a_group_launches_through_does_not_answer_for_its_members() {
        let judge = |groups: &[&str], owners: &[&str], tags: &[(&str, &str)]| {
            let group_marks = marks(groups);
            let owner_marks = [OwnerMark::defaults(), marks(owners)].concat();
            let trust = Trust { owner_marks: &owner_marks, group_marks: &group_marks };
            standing(&tagged(tags), trust, &SwapsInProgress::default())
        };
        let (member, fleet) = ((GROUP_NAME_TAG, "gpu-9f2c"), ("aws:ec2:fleet-id", "fleet-1"));
        assert_eq!(judge(&["team"], &[], &[member, fleet]), Authorization::Unauthorised);
        assert_eq!(judge(&["team"], &["aws:ec2:*"], &[member, fleet]), Authorization::Unauthorised);
        for (groups, owners, tags) in [
            (&["team"][..], &[][..], &[fleet][..]), // in no group: the fleet's own
            (&[], &[], &[member, fleet]),
            (&["team"], &[], &[member, fleet, ("team", "ml")]),
            (&["team"], &[], &[member, fleet, ("karpenter.sh/nodepool", "x")]),
            (&["team"], &["aws:ec2:fleet-id=fleet-1"], &[member, fleet]), // a mark names this very fleet
            (&["aws:ec2:fleet-id=fleet-1"], &[], &[member, fleet]),
        ] {
            let judged = judge(groups, owners, tags);
            assert!(
                matches!(judged, Authorization::Authorised(_)),
                "{groups:?} {owners:?} {tags:?}: {judged:?}"
            );
        }
    }
}
