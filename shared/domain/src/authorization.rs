//! Who answers for a running instance. Whatever carries one of the marks below belongs to somebody:
//! to us, to an Auto Scaling group, or to an AWS service that would be hurt by losing it.
//!
//! Marks compare by exact case, and an empty value authorises nothing. `ManagedBy=SpotOptimizer` is
//! the one mark that anybody may write and that is ours to prove: see [`Launched`].

use std::collections::BTreeSet;
use std::fmt;

use crate::ids::InstanceId;
use crate::journal::SwapId;
use crate::owners::MARKS;
use crate::tags::{GROUP_NAME_TAG, MANAGED_BY, SWAP_TAG, Tags};

/// Authorises whatever the settings say: members of a managed node group carry it.
pub const NODE_GROUP_TAG: &str = "eks:cluster-name";

/// A tag by which an owner marks its instances: `key` with any value but an empty one, `key=value` with
/// exactly this one, or `prefix*` for every key that begins so, with any value but an empty one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OwnerMark {
    key: String,
    value: Option<String>,
}

impl OwnerMark {
    /// Reads `key`, `key=value` or `prefix*`.
    ///
    /// # Errors
    /// What is wrong with it.
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
        Ok(Self { key: key.to_owned(), value: value.map(str::to_owned) })
    }

    /// The marks that hold unless the settings list others: those of `owners`.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        MARKS.iter().filter_map(|mark| Self::parse(mark.tag).ok()).collect()
    }

    fn is_on(&self, tags: &Tags) -> bool {
        if let Some(prefix) = self.key.strip_suffix('*') {
            return tags.iter().any(|(key, value)| key.starts_with(prefix) && !value.is_empty());
        }
        tags.get(&self.key).is_some_and(|found| match &self.value {
            Some(value) => found == value,
            None => !found.is_empty(),
        })
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

/// What EC2 says of an instance, as far as it bears on who answers for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The instance.
    pub id: InstanceId,
    /// Its tags.
    pub tags: Tags,
    /// Whether its lifecycle is Spot, which only a launch can make it.
    pub is_spot: bool,
    /// The AWS service that operates it (`Operator.Managed`).
    pub operator: Option<String>,
    /// The ClientToken of its launch: set once, by whoever launched it, and never changed after.
    pub client_token: Option<String>,
}

/// What the Swaps table knows of the swaps in progress.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwapsInProgress {
    ids: BTreeSet<String>,
    old: BTreeSet<InstanceId>,
}

impl SwapsInProgress {
    /// Adds a swap: its id, and the instance that it replaces.
    pub fn add(&mut self, swap_id: &str, old: &InstanceId) {
        self.ids.insert(swap_id.to_owned());
        self.old.insert(old.clone());
    }
}

/// Whether a swap of ours launched an instance that says so.
///
/// Tags can be written by anybody. That a swap launched it is proven when it carries the swap's id
/// in `spot-optimizer:swap`, is Spot (our launcher launches nothing else), and either EC2 remembers
/// a ClientToken of that swap from its launch, or the Swaps table has that swap in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Launched {
    Proven,
    Unproven(&'static str),
}

fn launched_by_us(subject: &Subject, swaps: &SwapsInProgress) -> Launched {
    let Some(swap_id) = subject.tags.get(SWAP_TAG).and_then(|id| id.parse::<SwapId>().ok()) else {
        return Launched::Unproven("no spot-optimizer:swap tag with the id of a swap");
    };
    if !subject.is_spot {
        return Launched::Unproven("it is not Spot, and no swap launches anything else");
    }
    let token_is_ours = subject.client_token.as_deref().is_some_and(|token| swap_id.has_token(token));
    if token_is_ours || swaps.ids.contains(swap_id.as_str()) {
        return Launched::Proven;
    }
    Launched::Unproven(
        "its launch bears no ClientToken of the swap in its tag, and no such swap is in progress",
    )
}

/// Where an instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Somebody answers for it: the mark, or the service.
    Authorised(String),
    /// A swap of ours is replacing it right now, and takes it away by itself.
    BeingReplaced,
    /// It says that it is ours and nothing proves it: why not. A person has to look.
    Suspicious(&'static str),
    /// Nobody answers for it.
    Unauthorised,
}

/// Judges one instance.
#[must_use]
pub fn standing(subject: &Subject, marks: &[OwnerMark], swaps: &SwapsInProgress) -> Standing {
    if let Some(operator) = &subject.operator {
        return Standing::Authorised(format!("operated by {operator}"));
    }
    for key in [GROUP_NAME_TAG, NODE_GROUP_TAG] {
        if subject.tags.get(key).is_some_and(|value| !value.is_empty()) {
            return Standing::Authorised(key.to_owned());
        }
    }
    if let Some(mark) = marks.iter().find(|mark| mark.is_on(&subject.tags)) {
        return Standing::Authorised(mark.to_string());
    }
    let claims_to_be_ours = subject.tags.get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1);
    if claims_to_be_ours {
        return match launched_by_us(subject, swaps) {
            Launched::Proven => Standing::Authorised("ManagedBy=SpotOptimizer".to_owned()),
            Launched::Unproven(why) => Standing::Suspicious(why),
        };
    }
    if swaps.old.contains(&subject.id) {
        return Standing::BeingReplaced;
    }
    Standing::Unauthorised
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

    fn judged(subject: &Subject) -> Standing {
        standing(subject, &OwnerMark::defaults(), &SwapsInProgress::default())
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
            assert!(matches!(judged(&tagged(&[(&key, value)])), Standing::Authorised(_)), "{mark}");
            assert_eq!(judged(&tagged(&[(&key, "")])), Standing::Unauthorised, "{mark} without a value");
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
            assert_eq!(judged(&tagged(&[tag])), Standing::Unauthorised, "{tag:?}");
        }
        assert_eq!(judged(&tagged(&[])), Standing::Unauthorised);
    }

    #[test]
    fn what_an_aws_service_operates_is_its_own() {
        let subject = Subject { operator: Some("eks.amazonaws.com".into()), ..tagged(&[]) };
        assert_eq!(judged(&subject), Standing::Authorised("operated by eks.amazonaws.com".into()));
    }

    #[test]
    fn no_setting_takes_the_group_or_the_node_group_away() {
        for key in [GROUP_NAME_TAG, NODE_GROUP_TAG] {
            let standing = standing(&tagged(&[(key, "x")]), &[], &SwapsInProgress::default());
            assert!(matches!(standing, Standing::Authorised(_)), "{key}");
        }
    }

    #[test]
    fn a_newcomer_is_proven_by_the_token_of_its_launch() {
        assert!(matches!(judged(&newcomer(Some(&format!("{SWAP}-0")))), Standing::Authorised(_)));
        for token in [None, Some(""), Some(SWAP), Some("i-0123456789abcdef0-1700000000001-0"), Some("ABCDE")]
        {
            assert!(matches!(judged(&newcomer(token)), Standing::Suspicious(_)), "{token:?}");
        }
    }

    #[test]
    fn a_newcomer_is_proven_by_the_journal_of_a_swap_in_progress() {
        let mut swaps = SwapsInProgress::default();
        swaps.add(SWAP, &"i-0123456789abcdef0".parse().unwrap());
        let judged = standing(&newcomer(None), &[], &swaps);
        assert!(matches!(judged, Standing::Authorised(_)));
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
            assert!(matches!(judged(&subject), Standing::Suspicious(_)), "{subject:?}");
        }
    }

    #[test]
    fn another_owner_dispels_the_suspicion() {
        let member = tagged(&[("ManagedBy", "SpotOptimizer"), (GROUP_NAME_TAG, "web")]);
        assert!(matches!(judged(&member), Standing::Authorised(_)));
    }

    #[test]
    fn what_a_swap_is_replacing_is_left_to_the_swap() {
        let mut swaps = SwapsInProgress::default();
        swaps.add(SWAP, &"i-00000000000000001".parse().unwrap());
        assert_eq!(standing(&tagged(&[]), &[], &swaps), Standing::BeingReplaced);
    }

    #[test]
    fn a_malformed_mark_is_refused() {
        for text in ["", "=x", "team=", " team", "team "] {
            assert!(OwnerMark::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(OwnerMark::parse("team=a=b").unwrap().value.as_deref(), Some("a=b"));
    }
}
