//! The events that the stack puts on a bus, and those of AWS that it reads. Detail types and fields are an interface:
//! users write rules for them.
//!
//! An event is declared once, in the lists below: what is put bears a declared detail type, and
//! docs/reference/events.md follows from the lists. Tests of the senders hold the details to the declared fields.

/// The `source` of the stack's own events.
pub const SOURCE: &str = "spot-optimizer";
/// The `source` of drills: AWS refuses `PutEvents` with a source of its own.
pub const DRILL_SOURCE: &str = "spot-optimizer.drill";
/// The `source` of EC2's events.
pub const EC2_SOURCE: &str = "aws.ec2";
/// The `source` of Auto Scaling's events.
pub const AUTO_SCALING_SOURCE: &str = "aws.autoscaling";
const STATES_SOURCE: &str = "aws.states";

const DEFAULT_BUS: &str = "default";
/// The stack's own account and region have the default bus; every other place forwards to the second.
const NOTICES_BUS: &str = "default, or `<stack>-notices` for other accounts and regions";
const REPORTS_BUS: &str = "`<stack>-reports` of the member, then `<stack>-hub` of the hub";

const SECURITY_ENFORCER: &str = "security enforcer";
const WASTE_SCANNER: &str = "waste scanner";
const RESPONDER: &str = "interruption responder";
const GROUP_WATCHER: &str = "group watcher";
/// The optimizer that made the swap, or the reconciler after the swap's execution died.
const SWAPS: &str = "optimizers, reconciler";
const YOURS: &str = "your rules";

/// An event, as the reference lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclaredEvent {
    pub detail_type: &'static str,
    pub source: &'static str,
    /// The part of the stack, or the service of AWS, that puts the event.
    pub sender: &'static str,
    /// The event bus, in Markdown.
    pub bus: &'static str,
    /// The part of the stack that reads the event.
    pub reader: &'static str,
    /// The meaning, in Markdown. Links are relative to docs/reference.
    pub doc: &'static str,
    /// The fields of the detail. Of AWS's events, only those that the stack reads.
    pub detail: &'static [DetailField],
}

/// A field of an event's detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetailField {
    pub name: &'static str,
    /// The condition under which the detail has the field; `None` if every detail has it.
    pub only_if: Option<&'static str>,
    /// The meaning, in Markdown.
    pub doc: &'static str,
}

impl DeclaredEvent {
    /// Returns the names of the fields that a detail may have.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.detail.iter().map(|field| field.name)
    }

    /// Returns the names of the fields that every detail has.
    pub fn fields_of_all(&self) -> impl Iterator<Item = &'static str> {
        self.detail.iter().filter(|field| field.only_if.is_none()).map(|field| field.name)
    }
}

const fn always(name: &'static str, doc: &'static str) -> DetailField {
    DetailField { name, only_if: None, doc }
}

const fn if_known(name: &'static str, doc: &'static str) -> DetailField {
    DetailField { name, only_if: Some("if known"), doc }
}

const fn if_asked(name: &'static str, doc: &'static str) -> DetailField {
    DetailField { name, only_if: Some("if the run is asked for one"), doc }
}

const ENROLLED_GROUP: DetailField =
    DetailField { name: "asg_name", only_if: Some("for a group"), doc: "the group" };
const IN_GROUP: DetailField =
    DetailField { name: "asg_name", only_if: Some("if it is in one"), doc: "its Auto Scaling group" };
const IN_CLUSTER: DetailField =
    DetailField { name: "cluster_name", only_if: Some("if it is a node"), doc: "its Kubernetes cluster" };

/// Makes an enum of events from `Name = "detail type" { … }`, the fields of [`DeclaredEvent`].
macro_rules! events {
    (
        $(#[$meta:meta])* enum $events:ident;
        $($(#[doc = $doc:literal])+ $name:ident = $detail_type:literal { $($field:ident: $value:expr),+ $(,)? })+
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $events { $($(#[doc = $doc])+ $name,)+ }

        impl $events {
            /// Every event of this kind.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the event's declaration.
            #[must_use]
            pub const fn declared(self) -> &'static DeclaredEvent {
                match self {
                    $(Self::$name => const {
                        let doc = concat!($($doc),+).trim_ascii();
                        &DeclaredEvent { detail_type: $detail_type, doc, $($field: $value),+ }
                    },)+
                }
            }

            /// Returns the event's `detail-type`.
            #[must_use]
            pub const fn detail_type(self) -> &'static str {
                self.declared().detail_type
            }
        }
    };
}

/// The detail of all events about one instance.
const INSTANCE: &[DetailField] = &[
    always("account_id", "the account of the instance"),
    always("region", "its region"),
    always("instance_id", "the instance"),
    always(
        "auth_status",
        "its row in InstanceAuth: `FLAGGED`, `CLEARED`, `TERMINATED`, `TERMINATION_BLOCKED`, `SUSPICIOUS`",
    ),
    always("reason", "why it has that status, in words"),
    always("flagged_at", "its first flag, epoch seconds; `null` without one"),
    always("enforced", "`true` if `auto_terminate` is on for the run and the account"),
    if_known("instance_type", "for example `m5.large`"),
    if_known("launched_at", "its launch or last start, epoch seconds"),
    if_known("name", "the value of its tag `Name`"),
    if_known("availability_zone", "the name of its zone"),
    if_known("public_addresses", "a list: public IPv4, then IPv6"),
    if_known("private_address", "private IPv4"),
    if_known("instance_profile", "the ARN of its instance profile"),
    if_known("usd_an_hour", "the On-Demand price, USD an hour; for Spot an upper bound"),
];

events! {
    /// An event that the stack puts on a bus.
    enum OwnEvent;
    /// Nothing authorises the instance; its grace begins.
    InstanceFlagged = "Instance Flagged" {
        source: SOURCE, sender: SECURITY_ENFORCER, bus: DEFAULT_BUS, reader: YOURS, detail: INSTANCE,
    }
    /// The instance still runs, flagged, blocked or suspicious, a day after the last notice.
    InstanceStillRunning = "Instance Still Running" {
        source: SOURCE, sender: SECURITY_ENFORCER, bus: DEFAULT_BUS, reader: YOURS, detail: INSTANCE,
    }
    /// The instance is authorised again; its flag is gone.
    InstanceCleared = "Instance Cleared" {
        source: SOURCE, sender: SECURITY_ENFORCER, bus: DEFAULT_BUS, reader: YOURS, detail: INSTANCE,
    }
    /// The instance bears `ManagedBy=SpotOptimizer`, and no swap launched it. It is never terminated.
    InstanceSuspicious = "Instance Suspicious" {
        source: SOURCE, sender: SECURITY_ENFORCER, bus: DEFAULT_BUS, reader: YOURS, detail: INSTANCE,
    }
    /// The enforcer terminated the instance.
    InstanceTerminated = "Instance Terminated" {
        source: SOURCE, sender: SECURITY_ENFORCER, bus: DEFAULT_BUS, reader: YOURS, detail: INSTANCE,
    }
    /// The instance is due, and something forbids its termination.
    InstanceTerminationBlocked = "Instance Termination Blocked" {
        source: SOURCE, sender: SECURITY_ENFORCER, bus: DEFAULT_BUS, reader: YOURS, detail: INSTANCE,
    }
    /// More instances were due than a run may terminate; the run terminated none.
    BlastRadiusExceeded = "Blast Radius Exceeded" {
        source: SOURCE,
        sender: SECURITY_ENFORCER,
        bus: DEFAULT_BUS,
        reader: YOURS,
        detail: &[
            always("problem", "the limit that is exceeded, with the figures of the run"),
            always("due", "the number of instances that were due"),
        ],
    }
    /// A run of the waste scan has ended: its [summary](../waste.md).
    WasteScanCompleted = "Waste Scan Completed" {
        source: SOURCE,
        sender: WASTE_SCANNER,
        bus: DEFAULT_BUS,
        reader: YOURS,
        detail: &[
            always("run_started", "the start of the first invocation, RFC 3339"),
            always("total_monthly_waste_usd", "the monthly cost of all findings, USD"),
            always("partial", "`true` if a listing failed, or a newer run has overtaken this one"),
            always("types", "the findings by type: `count`, `monthly_cost_usd`, `complete`, `left_alone`, `sharing_unknown` and more"),
            always("resolved", "the findings that are gone: `count`, `saved_monthly_usd`, `shared_blocks`, `recycle_bin`"),
            always("accounts_and_regions", "the number of scanned accounts and regions"),
            always("not_scanned", "the number of enabled regions that a service control policy denies"),
            always("overtaken", "how many of them a newer run has taken over"),
            always("failures", "the number of listings that failed"),
            always("failed", "the first 50 of them: `account_id`, `region` (if one was visited), `listing`, `error`"),
        ],
    }
    /// The waste scan needs another invocation, and asks for it.
    WasteScanToBeContinued = "Waste Scan To Be Continued" {
        source: SOURCE,
        sender: WASTE_SCANNER,
        bus: DEFAULT_BUS,
        reader: "waste scanner of the same stack",
        detail: &[
            always("run_started", "the start of the first invocation, epoch seconds"),
            always("continuation", "the number of invocations before the next one"),
            always("stack", "the stack that scans"),
            if_asked("account_id", "the account that is scanned"),
            if_asked("region", "the region that is scanned"),
        ],
    }
    /// The loop has started a swap of an enrolled group or lab instance.
    SwapStarted = "Swap Started" {
        source: SOURCE,
        sender: GROUP_WATCHER,
        bus: DEFAULT_BUS,
        reader: YOURS,
        detail: &[
            always("account_id", "the account of the group or instance"),
            always("region", "its region"),
            ENROLLED_GROUP,
            always("execution_arn", "the execution"),
            DetailField {
                name: "instance_id",
                only_if: Some("if a node or a lab instance is swapped"),
                doc: "the instance",
            },
        ],
    }
    /// The loop has something to swap in an enrolled group, or a lab instance, and does not start it now. Told once for each
    /// reason; what a person must repair is told once a day.
    SwapDeferred = "Swap Deferred" {
        source: SOURCE,
        sender: GROUP_WATCHER,
        bus: DEFAULT_BUS,
        reader: YOURS,
        detail: &[
            always("account_id", "the account of the group or instance"),
            always("region", "its region"),
            ENROLLED_GROUP,
            DetailField { name: "instance_id", only_if: Some("for a lab instance"), doc: "the instance" },
            always("reason", "the code of the [deferral](reasons.md#deferrals-of-the-loop)"),
            always("detail", "the reason in words"),
            if_known("not_before", "the earliest time of a start, RFC 3339"),
        ],
    }
    /// A swap is done: the new instance serves, the old one is gone (of a lab swap, stopped or terminated). The step that
    /// ends the swap sends the event. A repeated step sends it again; a bus that takes no event changes no swap.
    SwapCompleted = "Swap Completed" {
        source: SOURCE,
        sender: SWAPS,
        bus: DEFAULT_BUS,
        reader: YOURS,
        detail: &[
            always("execution_arn", "the execution"),
            always("account_id", "the account of the instance"),
            always("region", "its region"),
            IN_GROUP,
            IN_CLUSTER,
            always("old_instance_id", "the instance that was replaced"),
            if_known("new_instance_id", "the instance that serves instead"),
            if_known("pool", "the pool of the new instance: `region#zone-id#instance-type`"),
            always("to", "the market of the new instance: `SPOT` or `ON_DEMAND`"),
            if_known("monthly_saving_usd", "the price of the old minus the price of the new, USD a month"),
            if_known("detail", "what finished it, if that was not its own execution"),
        ],
    }
    /// A swap was undone: the old instance stays, or serves again. It is sent as `Swap Completed` is.
    SwapRolledBack = "Swap Rolled Back" {
        source: SOURCE,
        sender: SWAPS,
        bus: DEFAULT_BUS,
        reader: YOURS,
        detail: &[
            always("execution_arn", "the execution"),
            always("account_id", "the account of the instance"),
            always("region", "its region"),
            IN_GROUP,
            IN_CLUSTER,
            always("old_instance_id", "the instance that was to be replaced"),
            if_known("new_instance_id", "the instance that was to replace it"),
            if_known("pool", "the pool of that instance: `region#zone-id#instance-type`"),
            always("reason", "why it was undone: a [code](reasons.md#reasons-and-errors)"),
            always("detail", "the same in words"),
        ],
    }
    /// An interruption or rebalance recommendation of a member of an enrolled group, or of an instance that a swap
    /// launched, was answered.
    InterruptionAnswered = "Interruption Answered" {
        source: SOURCE,
        sender: RESPONDER,
        bus: DEFAULT_BUS,
        reader: YOURS,
        detail: &[
            always("account_id", "the account of the instance"),
            always("region", "its region"),
            always("instance_id", "the instance"),
            always("outcome", "`REPLACED`, `RELEASED`, `IGNORED` or `FAILED`; `STARTED` for a swap that replaces it"),
            if_known("asg_name", "its Auto Scaling group"),
            if_known("reason", "why it was not replaced before it left: a [code](reasons.md)"),
            if_known("detail", "the same in words"),
            if_known("served_at_least", "the fewest members that were seen to serve through the notice"),
            if_known("execution_arn", "the execution that answers, or the swap's"),
        ],
    }
    /// A Spot instance of a member is interrupted, or may soon be. The hub poisons the pool for all.
    SpotPoolInterrupted = "Spot Pool Interrupted" {
        source: SOURCE,
        sender: "risk manager of a member",
        bus: REPORTS_BUS,
        reader: "risk manager of the hub",
        detail: &[
            always("pool", "`region#zone-id#instance-type`"),
            always("instance-lifecycle", "`spot`; no other poisons"),
            always("instance-id", "the instance"),
            always("notice", "the detail type of AWS's notice"),
            always("occurred", "the time of that notice, RFC 3339"),
            always("is-drill", "`true` for a drill"),
        ],
    }
}

const FAILED: &str =
    "alerts: `Stuck` or `States.…`; of an answer, all but `InvalidInput` and `GroupNotFound`";
const NOTICE: &[DetailField] = &[always("instance-id", "the instance; its type and zone are looked up")];

events! {
    /// An event of AWS that the stack reads.
    enum AwsEvent;
    /// A Spot instance will be interrupted in two minutes: its pool is poisoned. With `AllowDrills`, the source
    /// `spot-optimizer.drill` counts, too.
    InterruptionWarning = "EC2 Spot Instance Interruption Warning" {
        source: EC2_SOURCE, sender: "EC2", bus: NOTICES_BUS, reader: "risk manager, interruption responder", detail: NOTICE,
    }
    /// A Spot instance is at elevated risk of an interruption: its pool is poisoned, unless `rebalance_poisons` is
    /// `false`. Drills count as above.
    RebalanceRecommendation = "EC2 Instance Rebalance Recommendation" {
        source: EC2_SOURCE, sender: "EC2", bus: NOTICES_BUS, reader: "risk manager, interruption responder", detail: NOTICE,
    }
    /// An Auto Scaling group has launched an instance, or attached one. The group watcher looks at the group if it is
    /// enrolled.
    InstanceLaunched = "EC2 Instance Launch Successful" {
        source: AUTO_SCALING_SOURCE,
        sender: "Auto Scaling",
        bus: NOTICES_BUS,
        reader: GROUP_WATCHER,
        detail: &[
            always("AutoScalingGroupName", "the group"),
            always("EC2InstanceId", "the instance; one that is Spot starts nothing"),
        ],
    }
    /// An execution of a swap or of an answer has ended. The reconciler finishes or undoes its work if it died; rules
    /// alert people if a swap is stuck, or an answer has failed.
    ExecutionStatusChange = "Step Functions Execution Status Change" {
        source: STATES_SOURCE,
        sender: "Step Functions",
        bus: DEFAULT_BUS,
        reader: "reconciler, alerts topic",
        detail: &[
            always("executionArn", "the execution"),
            always("stateMachineArn", "the rules listen to the state machines of the stack"),
            always("status", "reconciler: `ABORTED`, `TIMED_OUT`, `FAILED`; alerts: `TIMED_OUT`, `FAILED`"),
            DetailField { name: "error", only_if: Some("if `FAILED`"), doc: FAILED },
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_events_and_no_two_fields_of_one_have_the_same_name() {
        let own = OwnEvent::ALL.iter().map(|event| event.declared());
        let all: Vec<_> = own.chain(AwsEvent::ALL.iter().map(|event| event.declared())).collect();
        let detail_types: BTreeSet<_> = all.iter().map(|event| event.detail_type).collect();
        assert_eq!(detail_types.len(), all.len());
        for event in all {
            let fields: BTreeSet<_> = event.fields().collect();
            assert_eq!(fields.len(), event.detail.len(), "{}", event.detail_type);
        }
    }

    #[test]
    fn only_events_of_the_stack_bear_its_source() {
        assert!(OwnEvent::ALL.iter().all(|event| event.declared().source == SOURCE));
        assert!(AwsEvent::ALL.iter().all(|event| event.declared().source.starts_with("aws.")));
    }
}
