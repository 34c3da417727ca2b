//! The sets of values that settings take. Each set parses a value of the table, and says in words what it has.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::Value;
use crate::enrolment::Enrolment;
use crate::forwarding::BlindGate;
use crate::ids::{ClusterName, InstanceType};
use crate::old_instance::OldInstance;
use crate::owner_marks::OwnerMark;
use crate::tags::GROUP_NAME_TAG;

/// A set of values that a setting takes.
pub(super) trait Values<T> {
    /// Returns the type of the table's attribute, as DynamoDB spells it.
    fn attribute(&self) -> &'static str;

    /// Says what the set has, as the reference shows it.
    fn in_words(&self) -> String;

    /// Parses a value. The error says what is expected.
    fn parse(&self, value: &Value) -> Result<T, String>;
}

impl Values<u32> for RangeInclusive<u32> {
    fn attribute(&self) -> &'static str {
        "N"
    }

    fn in_words(&self) -> String {
        format!("{} to {}", self.start(), self.end())
    }

    fn parse(&self, value: &Value) -> Result<u32, String> {
        let words = self.in_words();
        let Value::Number(n) = value else { return Err(format!("expected a number from {words}")) };
        u32::try_from(*n)
            .ok()
            .filter(|n| self.contains(n))
            .ok_or_else(|| format!("{n} is out of range: expected {words}"))
    }
}

/// Both booleans.
pub(super) struct Booleans;

impl Values<bool> for Booleans {
    fn attribute(&self) -> &'static str {
        "BOOL"
    }

    fn in_words(&self) -> String {
        "`true` or `false`".to_owned()
    }

    fn parse(&self, value: &Value) -> Result<bool, String> {
        let Value::Bool(b) = value else { return Err("expected true or false (BOOL)".to_owned()) };
        Ok(*b)
    }
}

/// The texts that a parser accepts.
pub(super) struct Texts<T> {
    in_words: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Values<T> for Texts<T> {
    fn attribute(&self) -> &'static str {
        "S"
    }

    fn in_words(&self) -> String {
        self.in_words.to_owned()
    }

    fn parse(&self, value: &Value) -> Result<T, String> {
        let Value::Text(text) = value else { return Err("expected a text (S)".to_owned()) };
        (self.parse)(text)
    }
}

pub(super) const TAG_KEYS: Texts<String> = Texts {
    in_words: "one tag key of 1 to 128 characters, without `=`, `*` or comma, not `aws:…`",
    parse: tag_key,
};

pub(super) const INSTANCE_TYPES: Texts<Vec<InstanceType>> =
    Texts { in_words: "instance types, comma-separated", parse: parse_instance_types };

pub(super) const KUBECONFIG_SECRETS: Texts<BTreeMap<ClusterName, String>> =
    Texts { in_words: "`cluster=secret`, comma-separated", parse: kubeconfig_secrets };

pub(super) const OWNER_MARKS: Texts<Vec<OwnerMark>> =
    Texts { in_words: "`key`, `key=value` or `prefix*`, comma-separated", parse: owner_marks };

pub(super) const GROUP_MARKS: Texts<Vec<OwnerMark>> =
    Texts { in_words: "as `owner_marks`, but no mark that is on every member", parse: group_marks };

pub(super) const STORAGE_MARKS: Texts<Vec<OwnerMark>> = Texts { in_words: "as `owner_marks`", parse: marks };

pub(super) const OLD_INSTANCES: Texts<OldInstance> =
    Texts { in_words: "`stop` or `terminate`", parse: old_instance };

pub(super) const BLIND_GATES: Texts<BlindGate> = Texts { in_words: "`refuse` or `allow`", parse: blind_gate };
pub(super) const ENROLMENTS: Texts<Enrolment> = Texts { in_words: "`opt-in` or `opt-out`", parse: enrolment };

fn enrolment(text: &str) -> Result<Enrolment, String> {
    match text {
        "opt-in" => Ok(Enrolment::OptIn),
        "opt-out" => Ok(Enrolment::OptOut),
        _ => Err("expected opt-in or opt-out".to_owned()),
    }
}

/// Parses the key of a tag, which a resource must bear letter by letter.
///
/// EC2 takes `=`, `*` and commas in a key. But `owner_marks`, in the same row, gives them a meaning: `team=hands-off`,
/// `hold*` and `keep,hold` would be meant so here, too, and would protect nothing. Nor can white space at an end be meant.
fn tag_key(key: &str) -> Result<String, String> {
    if key.is_empty() || key.chars().count() > 128 || key.starts_with("aws:") {
        return Err("expected a tag key of 1 to 128 characters that does not start with aws:".to_owned());
    }
    if key.trim() != key {
        return Err(format!("{key:?} begins or ends with white space: expected one tag key without it"));
    }
    if key.contains(['=', '*', ',']) {
        return Err(format!("{key:?} is a mark or a list: expected one tag key, without =, * and comma"));
    }
    Ok(key.to_owned())
}

fn blind_gate(text: &str) -> Result<BlindGate, String> {
    match text {
        "refuse" => Ok(BlindGate::Refuse),
        "allow" => Ok(BlindGate::Allow),
        _ => Err("expected refuse or allow".to_owned()),
    }
}

fn old_instance(text: &str) -> Result<OldInstance, String> {
    match text {
        "stop" => Ok(OldInstance::Stop),
        "terminate" => Ok(OldInstance::Terminate),
        _ => Err("expected stop or terminate".to_owned()),
    }
}

/// Parses a list of marks. The list adds to the defaults: an operator who exempts a team must not condemn every
/// node of a cluster.
fn owner_marks(list: &str) -> Result<Vec<OwnerMark>, String> {
    Ok(OwnerMark::defaults().into_iter().chain(marks(list)?).collect())
}

/// Parses a list of marks. A mark that every member bears would restrict nothing, and is refused.
fn group_marks(list: &str) -> Result<Vec<OwnerMark>, String> {
    let marks = marks(list)?;
    match marks.iter().find(|mark| mark.is_on_every(GROUP_NAME_TAG)) {
        Some(mark) => {
            Err(format!("\"{mark}\" is on every member of a group, so that it would trust them all"))
        }
        None => Ok(marks),
    }
}

fn marks(list: &str) -> Result<Vec<OwnerMark>, String> {
    list.split(',').map(|entry| OwnerMark::parse(entry.trim())).collect()
}

pub(super) fn kubeconfig_secrets(list: &str) -> Result<BTreeMap<ClusterName, String>, String> {
    let mut secrets = BTreeMap::new();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (cluster, secret) = entry
            .split_once('=')
            .map(|(cluster, secret)| (cluster.trim(), secret.trim()))
            .filter(|(_, secret)| !secret.is_empty())
            .ok_or_else(|| format!("{entry:?}: expected cluster=ARN of the secret with its kubeconfig"))?;
        let cluster = cluster.parse::<ClusterName>().map_err(|error| error.to_string())?;
        let earlier = secrets.insert(cluster.clone(), secret.to_owned());
        if earlier.is_some_and(|earlier| earlier != secret) {
            return Err(format!("cluster {cluster} has two secrets: keep one of them"));
        }
    }
    Ok(secrets)
}

/// Parses a comma-separated list of instance types, as the setting and the group's tag spell it.
///
/// # Errors
/// A text that names the first entry that is no instance type.
pub fn parse_instance_types(list: &str) -> Result<Vec<InstanceType>, String> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| entry.parse::<InstanceType>().map_err(|error| error.to_string()))
        .collect()
}

/// A default, as the reference shows it.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for u32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        format!("`{self}`")
    }
}

impl Shown for OldInstance {
    fn shown(&self) -> String {
        match self {
            Self::Stop => "`stop`".to_owned(),
            Self::Terminate => "`terminate`".to_owned(),
        }
    }
}

impl Shown for BlindGate {
    fn shown(&self) -> String {
        match self {
            Self::Refuse => "`refuse`".to_owned(),
            Self::Allow => "`allow`".to_owned(),
        }
    }
}

impl Shown for Enrolment {
    fn shown(&self) -> String {
        match self {
            Self::OptIn => "`opt-in`".to_owned(),
            Self::OptOut => "`opt-out`".to_owned(),
        }
    }
}

impl Shown for Vec<InstanceType> {
    fn shown(&self) -> String {
        listed(self.iter().map(|kind| format!("`{kind}`")))
    }
}

impl Shown for Vec<OwnerMark> {
    fn shown(&self) -> String {
        if *self == OwnerMark::defaults() {
            return "see [audit](../audit.md)".to_owned(); // that page explains the marks, which fill no cell
        }
        listed(self.iter().map(|mark| format!("`{mark}`")))
    }
}

impl Shown for BTreeMap<ClusterName, String> {
    fn shown(&self) -> String {
        listed(self.iter().map(|(cluster, secret)| format!("`{cluster}={secret}`")))
    }
}

fn listed(entries: impl Iterator<Item = String>) -> String {
    let all = entries.collect::<Vec<_>>().join(", ");
    if all.is_empty() { "none".to_owned() } else { all }
}
