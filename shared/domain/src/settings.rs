//! Everything that a customer may tune, with its default. Overrides are rows of the Settings table: `global`,
//! then `account#<id>`, then `account#<id>#<region>`. The nearest one wins, field by field.
//!
//! A setting is declared once, in the list below. The fields of [`Settings`], their defaults, the parsing of an
//! override and docs/reference/settings.md follow from it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::enrolment::Enrolment;
use crate::events::AwsEvent;
use crate::forwarding::BlindGate;
use crate::ids::{AccountId, ClusterName, InstanceType, Region};
use crate::old_instance::OldInstance;
use crate::owner_marks::{OwnerMark, Trust};
use crate::tags::Tags;

mod values;

pub use values::parse_instance_types;
use values::{
    BLIND_GATES, Booleans, ENROLMENTS, GROUP_MARKS, INSTANCE_TYPES, KUBECONFIG_SECRETS, OLD_INSTANCES,
    OWNER_MARKS, STORAGE_MARKS, Shown, TAG_KEYS, Values,
};

/// One setting, as the reference lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name of the attribute in the Settings table.
    pub name: &'static str,
    /// The type of the attribute: `N`, `S` or `BOOL`.
    pub attribute: &'static str,
    /// The values that the setting takes, in words.
    pub values: String,
    /// The default, in Markdown.
    pub default: String,
    /// The meaning, in Markdown. Links are relative to docs/reference.
    pub doc: &'static str,
}

/// Makes the settings from `name: type = default, in values;`.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, in $values:expr;)+) => {
        /// The settings in force for one account and region.
        ///
        /// The payload of a run carries the settings. A field that an older release did not write has its default.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Settings { $($(#[doc = $doc])+ pub $name: $type,)+ }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Settings {
            fn set(&mut self, field: &str, value: &Value) -> Result<(), String> {
                match field {
                    $(stringify!($name) => self.$name = $values.parse(value)?,)+
                    _ => return Err("no such setting".to_owned()),
                }
                Ok(())
            }

            /// Returns every setting that exists.
            #[must_use]
            pub fn reference() -> Vec<Setting> {
                let defaults = Self::default();
                vec![$(Setting {
                    name: stringify!($name),
                    attribute: $values.attribute(),
                    values: $values.in_words(),
                    default: defaults.$name.shown(),
                    doc: concat!($($doc),+).trim_ascii(),
                },)+]
            }
        }
    };
}

settings! {
    /// Days that an interruption poisons its pool, from the event's own time.
    poison_days: u32 = 15, in 1..=365;
    /// Days that a rebalance recommendation poisons its pool. [Shorten them](../risk.md#what-15-days-cost) if these
    /// are frequent.
    rebalance_poison_days: u32 = 15, in 1..=365;
    /// `true` lets a rebalance recommendation poison its pool.
    rebalance_poisons: bool = true, in Booleans;
    /// Accounts that must have been interrupted in a pool, each within its poison days, to poison it.
    poison_threshold_accounts: u32 = 1, in 1..=100;
    /// Pools that a hub lets one member poison within one hour of the clock. Beyond that number, the member is muted
    /// for the rest of the hour and an alarm rings.
    max_poisons_per_account_per_hour: u32 = 50, in 1..=10_000;
    /// The same for a day of the clock, UTC.
    max_poisons_per_account_per_day: u32 = 200, in 1..=100_000;
    /// Percent of a region's pools (types × zones offered) that may be poisoned before an alarm rings. The alarm
    /// stops nothing.
    max_poisoned_share_of_region: u32 = 20, in 1..=100;

    /// Swaps in an account and region whose interruptions nobody [hands to the stack](../forwarding.md). `allow` makes
    /// them; their reports have `"gate": "blind"`.
    blind_gate: BlindGate = BlindGate::Refuse, in BLIND_GATES;

    /// The most instances that one start swaps, unless its input asks for fewer.
    max_swaps: u32 = 500, in 1..=500;
    /// Steps after which an execution of a group goes on in another one. Step Functions ends an execution at 25,000
    /// events of its history, and a step makes about ten.
    steps_per_execution: u32 = 2_000, in 10..=2_000;
    /// Newcomers of a group that are launched ahead of their turn, while the swap before them is attached and retired. With 1,
    /// each one is launched in its turn.
    launch_ahead: u32 = 3, in 1..=10;
    /// On-Demand instances that every group keeps, unless its tag or policy asks for more.
    min_on_demand: u32 = 0, in 0..=10_000;
    /// Percent by which a pool's Spot price must lie below the On-Demand price of the old instance.
    min_saving_percent: u32 = 20, in 0..=99;
    /// Failed swaps in a row after which a run ends.
    max_failures_in_a_row: u32 = 3, in 1..=100;
    /// Key of the tag that opts out an instance, a whole group, or what the waste scan finds. Any value but `false`
    /// does so.
    opt_out_tag: String = "spot-optimizer:opt-out".to_owned(), in TAG_KEYS;
    /// Instance types that every group may use beside its own, in order of preference.
    instance_types: Vec<InstanceType> = Vec::new(), in INSTANCE_TYPES;
    /// Seconds from launch until the newcomer must be running and pass both status checks.
    health_timeout_seconds: u32 = 600, in 1..=7_200;
    /// Seconds from attach until the newcomer must be InService and healthy in every target group.
    in_service_timeout_seconds: u32 = 900, in 1..=7_200;
    /// Seconds that the old instance may take to drain and leave the group. After that, a person is notified. The
    /// deregistration delay of a target group may be an hour.
    retire_timeout_seconds: u32 = 3_900, in 1..=86_400;
    /// Seconds that a rollback may take inside the execution, beside the time of the group's terminating hooks. After
    /// that, a person is notified and the reconciler continues alone. If it takes as long again, its alarm rings.
    rollback_timeout_seconds: u32 = 3_900, in 1..=86_400;
    /// Seconds between two checks while a swap waits.
    poll_seconds: u32 = 10, in 1..=300;
    /// Seconds until the last call has landed and shows: a launch, an attach, a detach, a termination, a MaxSize.
    /// An undo waits so long. So do the end of a swap in which a step was repeated, and a second termination through a group.
    /// More than the 60 that a step may run, by the time that a call takes to show: EC2 and Auto Scaling are
    /// eventually consistent. The least is 65; only local AWS accepts less.
    launch_visible_after_seconds: u32 = 90, in 1..=3_600;
    /// Seconds from an execution's end until the reconciler acts: its last Lambda must be dead. The least is 65, since
    /// a step may run for 60; only local AWS accepts less.
    reconcile_after_seconds: u32 = 90, in 0..=3_600;

    /// Seconds from launch until a Kubernetes node must have joined its cluster, be Ready, and be able to hold the old
    /// node's pods.
    node_ready_timeout_seconds: u32 = 300, in 1..=7_200;
    /// Seconds that the drain of a node may take, unless the input says otherwise. The drain lasts until the pods that
    /// it moved are Ready elsewhere.
    drain_timeout_seconds: u32 = 1_800, in 1..=43_200;
    /// Nodes of one Kubernetes cluster that are swapped at the same time.
    max_unavailable_nodes: u32 = 1, in 1..=100;
    /// `true` evicts pods with `emptyDir` volumes, too: the data in those volumes is lost.
    evict_local_storage: bool = false, in Booleans;
    /// `true` evicts pods that no controller brings back, too.
    evict_unmanaged: bool = false, in Booleans;
    /// The secret (ARN or name) that holds the kubeconfig of each cluster that is not EKS.
    kubeconfig_secrets: BTreeMap<ClusterName, String> = BTreeMap::new(), in KUBECONFIG_SECRETS;

    /// The groups that the [loop](../groups.md) keeps on Spot: those with the tag `spot-optimizer:enabled=true`
    /// (`opt-in`), or all but those with `false` (`opt-out`).
    enrolment: Enrolment = Enrolment::OptIn, in ENROLMENTS;
    /// Seconds from the launch of an On-Demand member until the loop starts a swap of its group.
    settle_seconds: u32 = 300, in 0..=86_400;
    /// Executions of the loop that run at the same time, over all accounts and regions of the stack.
    max_groups_at_once: u32 = 5, in 1..=500;
    /// Failed runs in a row after which the loop leaves a group alone.
    max_failed_runs: u32 = 5, in 1..=100;
    /// `true` lets a swap write the tags `spot-optimizer:last-run` and `spot-optimizer:last-error` on its group.
    write_group_tags: bool = true, in Booleans;

    /// The end of the old instance after a lab swap. `terminate` holds only with `capture_image`.
    lab_old_instance: OldInstance = OldInstance::Stop, in OLD_INSTANCES;
    /// Seconds that the image of a lab instance may take.
    image_timeout_seconds: u32 = 7_200, in 1..=43_200;

    /// Percent of a group's instances that rebalance recommendations may have replaced within an hour, rounded up.
    max_at_risk_percent: u32 = 20, in 0..=100;

    /// Hours from an instance's first flag until it may be terminated.
    grace_hours: u32 = 24, in 1..=8_760;
    /// Tags that authorise an instance in the audit. The list adds to the defaults.
    owner_marks: Vec<OwnerMark> = OwnerMark::defaults(), in OWNER_MARKS;
    /// Tags of which a member of an Auto Scaling group must bear one, for its group to authorise it. Without any, every
    /// group authorises its members.
    group_marks: Vec<OwnerMark> = Vec::new(), in GROUP_MARKS;
    /// The most minutes since the audit before, for it to count as the run before. The audit is hourly.
    audit_gap_minutes: u32 = 90, in 5..=1_440;
    /// The most instances that one run of the enforcer terminates. If more are due, it terminates none. The smallest
    /// value of the accounts and regions with due instances counts.
    max_terminations_per_run: u32 = 10, in 0..=1_000;
    /// The same, in percent of the running instances of each account and region.
    max_terminations_percent: u32 = 10, in 0..=100;

    /// An unattached volume is waste if it was created more than this number of days ago.
    volume_min_age_days: u32 = 7, in 0..=3_650;
    /// An unused snapshot is waste if it is older than this number of days.
    snapshot_min_age_days: u32 = 30, in 0..=3_650;
    /// Tags by which an owner keeps storage and addresses. The list adds to the [known systems](../waste.md).
    storage_marks: Vec<OwnerMark> = Vec::new(), in STORAGE_MARKS;
    /// Pairs of account and region that the waste scanner reads side by side (the stack's own scope counts). Each holds
    /// one page of EC2's answers in memory.
    scan_parallelism: u32 = 4, in 1..=32;
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

/// An override that can't be applied. No run begins until it is corrected.
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

/// The scope that holds everywhere.
pub const GLOBAL: &str = "global";

/// Returns the scopes that hold for an account and region, furthest first.
#[must_use]
pub fn scopes(account: &AccountId, region: &Region) -> [String; 3] {
    [GLOBAL.to_owned(), format!("account#{account}"), format!("account#{account}#{region}")]
}

impl Settings {
    /// Applies the overrides of one scope.
    ///
    /// # Errors
    /// The first unknown field or value out of range. None of the scope is then applied.
    pub fn with(&self, scope: &str, overrides: &BTreeMap<String, Value>) -> Result<Self, BadOverride> {
        let (settings, bad) = self.with_what_holds(scope, overrides);
        bad.into_iter().next().map_or(Ok(settings), Err)
    }

    /// Applies those overrides of one scope that can be applied, and returns the others. A field whose override can't be
    /// applied keeps the value that it has: that of a further scope, or its default.
    #[must_use]
    pub fn with_what_holds(
        &self,
        scope: &str,
        overrides: &BTreeMap<String, Value>,
    ) -> (Self, Vec<BadOverride>) {
        let (mut settings, mut bad) = (self.clone(), Vec::new());
        for (field, value) in overrides {
            if let Err(problem) = settings.set(field, value) {
                bad.push(BadOverride { scope: scope.to_owned(), field: field.clone(), problem });
            }
        }
        (settings, bad)
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

    /// Returns the notices of AWS that poison a pool.
    #[must_use]
    pub fn notices_that_poison(&self) -> Vec<AwsEvent> {
        let rebalance = self.rebalance_poisons.then_some(AwsEvent::RebalanceRecommendation);
        [Some(AwsEvent::InterruptionWarning), rebalance].into_iter().flatten().collect()
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

#[cfg(test)]
mod tests;
