//! Everything that a customer may tune, with its default. Overrides are rows of the Settings table: `global`,
//! then `account#<id>`, then `account#<id>#<region>`. The nearest one wins, field by field.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, ClusterName, InstanceType, Region};
use crate::old_instance::OldInstance;
use crate::owner_marks::{OwnerMark, Trust};
use crate::tags::{GROUP_NAME_TAG, Tags};

/// The settings in force for one account and region.
///
/// The payload of a run carries the settings. A field that an older release did not write has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Days that an interruption poisons its pool, from the event's own time.
    pub poison_days: u32,
    /// Days that a rebalance recommendation poisons its pool.
    pub rebalance_poison_days: u32,
    /// A rebalance recommendation poisons its pool.
    pub rebalance_poisons: bool,
    /// Accounts that must have been interrupted in a pool, each within its poison days, to poison it.
    pub poison_threshold_accounts: u32,
    /// Pools that another account's reports may poison within one hour of the clock. Beyond that number, the
    /// account is muted for the rest of the hour and an alarm rings.
    pub max_poisons_per_account_per_hour: u32,
    /// Pools that another account's reports may poison within one day of the clock.
    pub max_poisons_per_account_per_day: u32,
    /// Percent of a region's pools that may be poisoned before an alarm rings. The alarm stops nothing.
    pub max_poisoned_share_of_region: u32,
    /// The most instances that one execution swaps, unless its input asks for fewer.
    pub max_swaps: u32,
    /// On-Demand instances that every group keeps, unless its tag or policy asks for more.
    pub min_on_demand: u32,
    /// Percent by which a pool's Spot price must lie below the On-Demand price of the old instance.
    pub min_saving_percent: u32,
    /// Failed swaps in a row after which a run ends.
    pub max_failures_in_a_row: u32,
    /// Key of the tag that opts an instance, or a whole group, out. Any value but `false` does so.
    pub opt_out_tag: String,
    /// Instance types that every group may use beside its own, in order of preference.
    pub instance_types: Vec<InstanceType>,
    /// Seconds from launch until the newcomer must be running and pass both status checks.
    pub health_timeout_seconds: u32,
    /// Seconds from attach until the newcomer must be InService and healthy in every target group.
    pub in_service_timeout_seconds: u32,
    /// Seconds that the old instance may take to leave the group. After that, an alert goes out.
    pub retire_timeout_seconds: u32,
    /// Seconds that a rollback may take inside the execution. After that, the reconciler continues alone.
    pub rollback_timeout_seconds: u32,
    /// Seconds between two observations while a swap waits.
    pub poll_seconds: u32,
    /// Seconds after an execution's end before the reconciler acts: its last Lambda must be dead. The value
    /// is above the function's timeout of 60 seconds, except on local AWS.
    pub reconcile_after_seconds: u32,
    /// Seconds after a changing call during which an undo concludes nothing from the call's absence. The value is above
    /// the function's timeout of 60 seconds, by the time that a call takes to show: the call is made after the time was
    /// noted, and EC2 and Auto Scaling are eventually consistent.
    pub launch_visible_after_seconds: u32,
    /// Seconds from launch until a Kubernetes node must have joined its cluster and be Ready.
    pub node_ready_timeout_seconds: u32,
    /// Seconds that the drain of a node may take, unless the input says otherwise. The drain lasts until the
    /// pods that it moved are Ready elsewhere.
    pub drain_timeout_seconds: u32,
    /// Nodes of one Kubernetes cluster that may be swapped at the same time.
    pub max_unavailable_nodes: u32,
    /// The secret (ARN or name) that holds the kubeconfig of each cluster that is not EKS.
    pub kubeconfig_secrets: BTreeMap<ClusterName, String>,
    /// Pods with `emptyDir` volumes are evicted, too: the data in those volumes is lost.
    pub evict_local_storage: bool,
    /// Pods that no controller brings back are evicted, too.
    pub evict_unmanaged: bool,
    /// Hours from an instance's first flag until it may be terminated.
    pub grace_hours: u32,
    /// Tags that authorise an instance, beside the built-in ones. Overrides add to the defaults.
    pub owner_marks: Vec<OwnerMark>,
    /// Tags of which a member of an Auto Scaling group must bear one, for its group to authorise it. If the
    /// list is empty, every group authorises its members.
    pub group_marks: Vec<OwnerMark>,
    /// Minutes since the audit before, at most, for it to count as the run before. The audit is hourly.
    pub audit_gap_minutes: u32,
    /// The most instances that one run of the enforcer terminates. If more are due, it terminates none.
    pub max_terminations_per_run: u32,
    /// The most instances that one run of the enforcer terminates, in percent of the running ones of an
    /// account and region.
    pub max_terminations_percent: u32,
    /// Days since its creation after which an unattached volume is waste.
    pub volume_min_age_days: u32,
    /// Days since its creation after which a snapshot that no image uses is waste.
    pub snapshot_min_age_days: u32,
    /// Tags by which an owner keeps addresses, volumes and snapshots, beside the tags of known systems.
    pub storage_marks: Vec<OwnerMark>,
    /// Pairs of account and region that the waste scanner reads side by side. Each holds one page of EC2's
    /// answers in memory.
    pub scan_parallelism: u32,
    /// The fate of the old instance after a lab swap.
    pub lab_old_instance: OldInstance,
    /// Seconds that an image of the old instance may take.
    pub image_timeout_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poison_days: 15,
            rebalance_poison_days: 15,
            rebalance_poisons: true,
            poison_threshold_accounts: 1,
            max_poisons_per_account_per_hour: 50,
            max_poisons_per_account_per_day: 200,
            max_poisoned_share_of_region: 20,
            max_swaps: 100,
            min_on_demand: 0,
            min_saving_percent: 20,
            max_failures_in_a_row: 3,
            opt_out_tag: "spot-optimizer:opt-out".to_owned(),
            instance_types: Vec::new(),
            health_timeout_seconds: 600,
            in_service_timeout_seconds: 900,
            retire_timeout_seconds: 3_900, // a target group's deregistration delay may be an hour
            rollback_timeout_seconds: 3_900,
            poll_seconds: 10,
            reconcile_after_seconds: 90,
            launch_visible_after_seconds: 90,
            node_ready_timeout_seconds: 300,
            drain_timeout_seconds: 1_800,
            max_unavailable_nodes: 1,
            kubeconfig_secrets: BTreeMap::new(),
            evict_local_storage: false,
            evict_unmanaged: false,
            grace_hours: 24,
            owner_marks: OwnerMark::defaults(),
            group_marks: Vec::new(),
            audit_gap_minutes: 90,
            max_terminations_per_run: 10,
            max_terminations_percent: 10,
            volume_min_age_days: 7,
            snapshot_min_age_days: 30,
            storage_marks: Vec::new(),
            scan_parallelism: 4,
            lab_old_instance: OldInstance::Stop,
            image_timeout_seconds: 7_200,
        }
    }
}

/// One value of an override, as the table holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number without fraction.
    Number(i64),
    /// A text.
    Text(String),
    /// A boolean.
    Bool(bool),
    /// Any other value that the table can hold; no setting takes it.
    Other,
}

/// An override that can't be applied. Nothing is changed until it is corrected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("settings {scope:?}, field {field:?}: {problem}")]
pub struct BadOverride {
    /// The row.
    pub scope: String,
    /// The attribute.
    pub field: String,
    /// The fault of the value, and what is expected.
    pub problem: String,
}

/// Returns the scopes that hold for an account and region, furthest first.
#[must_use]
pub fn scopes(account: &AccountId, region: &Region) -> [String; 3] {
    ["global".to_owned(), format!("account#{account}"), format!("account#{account}#{region}")]
}

impl Settings {
    /// Applies the overrides of one scope.
    ///
    /// # Errors
    /// The first unknown field or value out of range. None of the scope is then applied.
    pub fn with(&self, scope: &str, overrides: &BTreeMap<String, Value>) -> Result<Self, BadOverride> {
        let mut settings = self.clone();
        for (field, value) in overrides {
            settings.set(field, value).map_err(|problem| BadOverride {
                scope: scope.to_owned(),
                field: field.clone(),
                problem,
            })?;
        }
        Ok(settings)
    }

    fn set(&mut self, field: &str, value: &Value) -> Result<(), String> {
        match field {
            "poison_days" => self.poison_days = number(value, 1, 365)?,
            "rebalance_poison_days" => self.rebalance_poison_days = number(value, 1, 365)?,
            "rebalance_poisons" => self.rebalance_poisons = boolean(value)?,
            "poison_threshold_accounts" => self.poison_threshold_accounts = number(value, 1, 100)?,
            "max_poisons_per_account_per_hour" => {
                self.max_poisons_per_account_per_hour = number(value, 1, 10_000)?;
            }
            "max_poisons_per_account_per_day" => {
                self.max_poisons_per_account_per_day = number(value, 1, 100_000)?;
            }
            "max_poisoned_share_of_region" => self.max_poisoned_share_of_region = number(value, 1, 100)?,
            "max_swaps" => self.max_swaps = number(value, 1, 500)?,
            "min_on_demand" => self.min_on_demand = number(value, 0, 10_000)?,
            "min_saving_percent" => self.min_saving_percent = number(value, 0, 99)?,
            "max_failures_in_a_row" => self.max_failures_in_a_row = number(value, 1, 100)?,
            "opt_out_tag" => self.opt_out_tag = tag_key(value)?,
            "instance_types" => self.instance_types = parse_instance_types(text(value)?)?,
            "health_timeout_seconds" => self.health_timeout_seconds = number(value, 1, 7_200)?,
            "in_service_timeout_seconds" => self.in_service_timeout_seconds = number(value, 1, 7_200)?,
            "retire_timeout_seconds" => self.retire_timeout_seconds = number(value, 1, 86_400)?,
            "rollback_timeout_seconds" => self.rollback_timeout_seconds = number(value, 1, 86_400)?,
            "poll_seconds" => self.poll_seconds = number(value, 1, 300)?,
            "launch_visible_after_seconds" => self.launch_visible_after_seconds = number(value, 1, 3_600)?,
            "reconcile_after_seconds" => self.reconcile_after_seconds = number(value, 0, 3_600)?,
            "node_ready_timeout_seconds" => self.node_ready_timeout_seconds = number(value, 1, 7_200)?,
            "drain_timeout_seconds" => self.drain_timeout_seconds = number(value, 1, 43_200)?,
            "max_unavailable_nodes" => self.max_unavailable_nodes = number(value, 1, 100)?,
            "evict_local_storage" => self.evict_local_storage = boolean(value)?,
            "evict_unmanaged" => self.evict_unmanaged = boolean(value)?,
            "kubeconfig_secrets" => self.kubeconfig_secrets = kubeconfig_secrets(text(value)?)?,
            "grace_hours" => self.grace_hours = number(value, 1, 8_760)?,
            "owner_marks" => self.owner_marks = owner_marks(text(value)?)?,
            "group_marks" => self.group_marks = group_marks(text(value)?)?,
            "audit_gap_minutes" => self.audit_gap_minutes = number(value, 5, 1_440)?,
            "max_terminations_per_run" => self.max_terminations_per_run = number(value, 0, 1_000)?,
            "max_terminations_percent" => self.max_terminations_percent = number(value, 0, 100)?,
            "volume_min_age_days" => self.volume_min_age_days = number(value, 0, 3_650)?,
            "snapshot_min_age_days" => self.snapshot_min_age_days = number(value, 0, 3_650)?,
            "storage_marks" => self.storage_marks = marks(text(value)?)?,
            "scan_parallelism" => self.scan_parallelism = number(value, 1, 32)?,
            "lab_old_instance" => self.lab_old_instance = old_instance(text(value)?)?,
            "image_timeout_seconds" => self.image_timeout_seconds = number(value, 1, 43_200)?,
            _ => return Err("no such setting".to_owned()),
        }
        Ok(())
    }

    /// Returns true if the tags opt a resource out: the opt-out tag has any value but `false`.
    #[must_use]
    pub fn opts_out(&self, tags: &Tags) -> bool {
        tags.get(&self.opt_out_tag).is_some_and(|value| value != "false")
    }

    /// Returns the time for which an interruption poisons its pool.
    #[must_use]
    pub fn poison_for(&self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.poison_days))
    }

    /// Returns the tags that the audit trusts.
    #[must_use]
    pub fn trust(&self) -> Trust<'_> {
        Trust { owner_marks: &self.owner_marks, group_marks: &self.group_marks }
    }

    /// Returns the time from an instance's flag to its termination.
    #[must_use]
    pub fn grace(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.grace_hours))
    }

    /// Returns the longest time since the audit before.
    #[must_use]
    pub fn audit_gap(&self) -> SignedDuration {
        SignedDuration::from_mins(i64::from(self.audit_gap_minutes))
    }

    /// Returns the time for which a rebalance recommendation poisons its pool.
    #[must_use]
    pub fn rebalance_poison_for(&self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.rebalance_poison_days))
    }
}

fn old_instance(text: &str) -> Result<OldInstance, String> {
    match text {
        "stop" => Ok(OldInstance::Stop),
        "terminate" => Ok(OldInstance::Terminate),
        _ => Err("expected stop or terminate".to_owned()),
    }
}

fn number(value: &Value, least: u32, most: u32) -> Result<u32, String> {
    let Value::Number(n) = value else { return Err(format!("expected a number from {least} to {most}")) };
    u32::try_from(*n)
        .ok()
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| format!("{n} is out of range: expected {least} to {most}"))
}

fn boolean(value: &Value) -> Result<bool, String> {
    let Value::Bool(b) = value else { return Err("expected true or false (BOOL)".to_owned()) };
    Ok(*b)
}

fn text(value: &Value) -> Result<&str, String> {
    let Value::Text(text) = value else { return Err("expected a text (S)".to_owned()) };
    Ok(text)
}

fn tag_key(value: &Value) -> Result<String, String> {
    let key = text(value)?;
    if key.is_empty() || key.chars().count() > 128 || key.starts_with("aws:") {
        return Err("expected a tag key of 1 to 128 characters that does not start with aws:".to_owned());
    }
    Ok(key.to_owned())
}

/// Parses a comma-separated list of marks. The list adds to the defaults: an operator who exempts a team must
/// not condemn every node of a cluster.
fn owner_marks(list: &str) -> Result<Vec<OwnerMark>, String> {
    Ok(OwnerMark::defaults().into_iter().chain(marks(list)?).collect())
}

/// Parses a comma-separated list of marks. A mark that every member bears would restrict nothing, and is
/// refused.
fn group_marks(list: &str) -> Result<Vec<OwnerMark>, String> {
    let marks = marks(list)?;
    match marks.iter().find(|mark| mark.is_on_every(GROUP_NAME_TAG)) {
        Some(mark) => {
            Err(format!("\"{mark}\" is on every member of a group, so that it would trust them all"))
        }
        None => Ok(marks),
    }
}

/// Parses a comma-separated list of `key`, `key=value` or `prefix*`.
fn marks(list: &str) -> Result<Vec<OwnerMark>, String> {
    list.split(',').map(|entry| OwnerMark::parse(entry.trim())).collect()
}

/// Parses a comma-separated list of `cluster=secret`.
fn kubeconfig_secrets(list: &str) -> Result<BTreeMap<ClusterName, String>, String> {
    let mut secrets = BTreeMap::new();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (cluster, secret) = entry
            .split_once('=')
            .map(|(cluster, secret)| (cluster.trim(), secret.trim()))
            .filter(|(_, secret)| !secret.is_empty())
            .ok_or_else(|| format!("{entry:?}: expected cluster=ARN of the secret with its kubeconfig"))?;
        let cluster = cluster.parse::<ClusterName>().map_err(|error| error.to_string())?;
        secrets.insert(cluster, secret.to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(field: &str, value: Value) -> BTreeMap<String, Value> {
        BTreeMap::from([(field.to_owned(), value)])
    }

    #[test]
    fn the_nearest_scope_wins_field_by_field() {
        let settings = Settings::default()
            .with("global", &overrides("poison_days", Value::Number(10)))
            .and_then(|s| s.with("account#1", &overrides("poison_days", Value::Number(5))))
            .and_then(|s| s.with("account#1#r", &overrides("poll_seconds", Value::Number(3))))
            .unwrap();
        assert_eq!((settings.poison_days, settings.poll_seconds), (5, 3));
        assert!(settings.rebalance_poisons);
    }

    #[test]
    fn a_bad_override_names_scope_and_field() {
        let cases = [
            ("poison_days", Value::Number(0), "0 is out of range: expected 1 to 365"),
            ("poison_days", Value::Text("15".into()), "expected a number from 1 to 365"),
            ("poison_day", Value::Number(15), "no such setting"),
            ("rebalance_poisons", Value::Number(1), "expected true or false (BOOL)"),
            ("poll_seconds", Value::Number(-1), "-1 is out of range: expected 1 to 300"),
            (
                "opt_out_tag",
                Value::Text("aws:x".into()),
                "expected a tag key of 1 to 128 characters that does not start with aws:",
            ),
            ("max_swaps", Value::Other, "expected a number from 1 to 500"),
            ("poison_threshold_accounts", Value::Number(0), "0 is out of range: expected 1 to 100"),
            ("max_poisons_per_account_per_hour", Value::Number(0), "0 is out of range: expected 1 to 10000"),
            ("max_poisoned_share_of_region", Value::Number(101), "101 is out of range: expected 1 to 100"),
        ];
        for (field, value, problem) in cases {
            let error = Settings::default().with("global", &overrides(field, value)).unwrap_err();
            assert_eq!(error.to_string(), format!("settings \"global\", field {field:?}: {problem}"));
        }
    }

    #[test]
    fn the_enforcers_settings_are_held_to_their_ranges() {
        let bad = [
            ("grace_hours", Value::Number(0)),
            ("grace_hours", Value::Text("24".into())),
            ("max_terminations_per_run", Value::Number(-1)),
            ("max_terminations_percent", Value::Number(101)),
            ("audit_gap_minutes", Value::Number(1)),
            ("owner_marks", Value::Text(String::new())),
            ("owner_marks", Value::Text("team,,x".into())),
            ("owner_marks", Value::Text("team=".into())),
            ("owner_marks", Value::Text("team, kube*/cluster".into())),
            ("group_marks", Value::Text(String::new())),
            ("group_marks", Value::Text("aws:autoscaling:groupName".into())),
            ("group_marks", Value::Text("team, aws:*".into())),
            ("storage_marks", Value::Text("keep*=yes".into())),
        ];
        for (field, value) in bad {
            let error = Settings::default().with("account#1", &overrides(field, value)).unwrap_err();
            assert_eq!((error.scope.as_str(), error.field.as_str()), ("account#1", field));
        }
        let marks = Value::Text("team, CreatedBy=EC2 Image Builder".into());
        let settings = Settings::default().with("global", &overrides("owner_marks", marks)).unwrap();
        let marks: Vec<_> = settings.owner_marks.iter().map(ToString::to_string).collect();
        assert!(marks.ends_with(&["team".into(), "CreatedBy=EC2 Image Builder".into()]));
        assert_eq!(marks.len(), OwnerMark::defaults().len() + 2);
    }

    #[test]
    fn marks_of_groups_and_storage_are_lists_that_replace_nothing() {
        let with = |field, list: &str| {
            let value = Value::Text(list.into());
            Settings::default().with("global", &overrides(field, value)).unwrap()
        };
        let texts = |marks: &[OwnerMark]| marks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let groups = with("group_marks", "team, aws:autoscaling:groupName=web");
        assert_eq!(texts(&groups.group_marks), "team aws:autoscaling:groupName=web");
        assert_eq!(groups.owner_marks, OwnerMark::defaults());
        assert_eq!(
            texts(&with("storage_marks", "legal-hold, backup/*").storage_marks),
            "legal-hold backup/*"
        );
    }

    /// A rule of the seed; an owner may shorten it on purpose.
    #[test]
    fn both_notices_poison_for_fifteen_days_by_default() {
        let settings = Settings::default();
        assert_eq!((settings.poison_days, settings.rebalance_poison_days), (15, 15));
    }

    /// Once a step is killed, what it called last may still land.
    #[test]
    fn reader_7_the_quiet_period_outlasts_a_step() {
        const LONGEST_STEP: u32 = 60;
        assert!(Settings::default().launch_visible_after_seconds >= LONGEST_STEP + 30);
    }

    #[test]
    fn kubeconfig_secrets_are_pairs() {
        let pairs = kubeconfig_secrets("lab = arn:aws:secretsmanager:r:a:secret:x , k3s.local=y").unwrap();
        assert_eq!(pairs[&"lab".parse().unwrap()], "arn:aws:secretsmanager:r:a:secret:x");
        assert_eq!(pairs.len(), 2);
        assert!(kubeconfig_secrets("lab").unwrap_err().contains("\"lab\": expected cluster="));
        assert!(kubeconfig_secrets("la b=x").unwrap_err().contains("cluster name \"la b\""));
    }

    #[test]
    fn instance_types_are_a_comma_separated_list() {
        let types = parse_instance_types(" m5.large, m5a.large ,").unwrap();
        assert_eq!(types.iter().map(InstanceType::as_str).collect::<Vec<_>>(), ["m5.large", "m5a.large"]);
        assert!(parse_instance_types("m5.large, big").unwrap_err().contains("\"big\""));
    }
}
