//! The scenes: what there is when a history begins, and what is started.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use spot_domain::old_instance::OldInstance;
use spot_domain::settings::Settings;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::acts::Act;
use crate::cluster::{Cluster, ClusterSpec};
use crate::event_bridge::Wakes;
use crate::executions::{CLUSTER_SWAP, LAB_SWAP, NODE_SWAP};
use crate::fault::Plan;
use crate::fleet::{AwsHabits, Fleet, GroupSpec, InstanceSpec};
use crate::machine::DataLimit;
use crate::mailbox::{EventRule, Mailbox};
use crate::oracles::{GROUPS, LabLedger, POOL_RISK, SIGHTINGS, SWAPS};
use crate::sessions::RoleTrust;
use crate::settings::{self, GLOBAL};
use crate::tables::{TableSpec, Tables};
use crate::transport::Network;
use crate::virtual_time::BEGIN;
use crate::world::World;

/// The stack's account.
pub const ACCOUNT: &str = "123456789012";
/// The account of a stand-alone instance, which the registry calls LAB.
pub const LAB_ACCOUNT: &str = "210987654321";
/// The account of a group that is not in the stack's own, which the registry calls PROD.
pub const PROD_ACCOUNT: &str = "345678901234";
/// The stack's region.
pub const REGION: &str = "us-east-1";

/// The registry of accounts.
pub const ACCOUNTS: &str = "spot-optimizer-accounts";
/// The role that opens the account of a stand-alone instance.
pub const LAB_ROLE: &str = "arn:aws:iam::210987654321:role/spot-optimizer";
/// The role that opens the account of such a group.
pub const PROD_ROLE: &str = "arn:aws:iam::345678901234:role/spot-optimizer";
/// The table of settings.
pub const SETTINGS: &str = "spot-optimizer-settings";
const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:spot-optimizer-alerts";
const NOTICES_BUS: &str = "arn:aws:events:us-east-1:123456789012:event-bus/spot-optimizer-notices";
const RISK_MANAGER: &str = "arn:aws:lambda:us-east-1:123456789012:function:risk-manager";

/// What there is when a history begins.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// The group.
    pub group: GroupSpec,
    /// Groups beside it. No act is about them.
    pub other_groups: Vec<GroupSpec>,
    /// The groups lie in another PROD account, whose rule forwards notices to the stack's bus.
    pub is_elsewhere: bool,
    /// The cluster whose nodes the members are. What is started is then the swap of the first one.
    pub nodes: Option<ClusterSpec>,
    /// The stand-alone instance of a LAB account, in the place of the group. What is started is then its swap.
    pub lab: Option<InstanceSpec>,
    /// How AWS behaves where it may behave in several ways.
    pub habits: AwsHabits,
    /// What a payload that is too large does to an execution.
    pub data_limit: DataLimit,
    /// The most bytes of a payload, for a group too small to reach AWS's quota; `None` for that quota.
    pub payload_bytes: Option<usize>,
    /// Settings of the global scope.
    pub settings: BTreeMap<String, Value>,
    /// Fields of the input beside the group's name.
    pub input: BTreeMap<String, Value>,
    /// Nobody starts a swap.
    pub is_quiet: bool,
    /// What others do, by the seconds since the beginning.
    pub acts: Vec<(u64, Act)>,
    /// What others do once the group is on Spot, one after another: each waits until the group is on Spot again.
    pub once_on_spot: Vec<Act>,
    /// The deliveries of notices to the risk manager: [`EventBridge::to_risk_manager`](crate::event_bridge::EventBridge). Without any, the risk manager does
    /// not run: the pool of a notice is poisoned at once.
    pub to_risk_manager: Vec<Vec<u64>>,
    /// The group watcher runs; this is the second of its first sweep.
    pub watched_from: Option<u64>,
    /// The settings may keep an enrolled group from Spot: the history does not wait for it.
    pub may_stay: bool,
    /// What wakes the reconciler besides.
    pub wakes: Wakes,
    /// Seconds in the place of the state machines' `TimeoutSeconds`.
    pub machine_timeout: Option<u64>,
    /// What happens besides, by the time since the beginning.
    pub happenings: Vec<(Duration, Happening)>,
    /// Rows that the tables have besides, each with its table. A row takes the place of one of the scene with the same key.
    pub rows: Vec<(String, Value)>,
    /// The inputs of the functions are kept: [`Ended::arrivals`](crate::history::Ended).
    pub keeps_arrivals: bool,
}

/// A change of the world by somebody besides the code under test.
pub type Happening = fn(&mut World);

/// An account that is not the stack's own, as the registry has it.
struct OtherAccount {
    id: &'static str,
    kind: &'static str,
    role: &'static str,
}

impl Scene {
    /// Returns the scene of a stand-alone instance with an Elastic IP, in a target group.
    #[must_use]
    pub fn of_instance() -> Self {
        Self {
            lab: Some(InstanceSpec { has_address: true, target_groups: 1, ..InstanceSpec::default() }),
            ..Self::default()
        }
    }

    /// Returns the world at its beginning.
    #[must_use]
    pub fn world(&self, plan: Plan) -> World {
        let mut fleet = self.fleet();
        for group in &self.other_groups {
            fleet.add_group(group, BEGIN);
        }
        let mut tables = match self.habits.page_size {
            Some(items) => tables().with_pages_of(items),
            None => tables(),
        };
        if !self.settings.is_empty() {
            // The table takes every row of this shape.
            let _ = tables.put(SETTINGS, &settings::row_of(GLOBAL, &self.settings));
        }
        let cluster = self.nodes.as_ref().map(|spec| Cluster::of(spec, &fleet, BEGIN));
        let target = if self.registered().is_some() { NOTICES_BUS } else { RISK_MANAGER };
        let mut world = World::new(fleet, tables, mailbox(target), plan);
        self.registers(&mut world);
        for (table, row) in &self.rows {
            if let Err(error) = world.tables.put(table, row) {
                world.oracles.is_not_played(&format!("{table} takes no row {row}: {error:?}"));
            }
        }
        self.sets_the_oracles(&mut world);
        world.cluster = cluster;
        world.event_bridge.to_risk_manager.clone_from(&self.to_risk_manager);
        world.is_watched = self.watched_from.is_some();
        world.awaits_spot = world.is_watched && !self.may_stay;
        if world.is_watched {
            world.event_bridge.announces_launches_of(&world.fleet);
        }
        world.acts_to_come = self.once_on_spot.len();
        world
    }

    fn fleet(&self) -> Fleet {
        if let Some(instance) = &self.lab {
            return Fleet::with_instance(self.account(), instance, self.habits.clone(), BEGIN);
        }
        let mut fleet = Fleet::new(self.account(), REGION, self.habits.clone());
        fleet.add_group(&self.group, BEGIN);
        fleet
    }

    /// Returns the account of the group or the instance, if that is not the stack's own.
    fn registered(&self) -> Option<OtherAccount> {
        match (&self.lab, self.is_elsewhere) {
            (Some(_), _) => Some(OtherAccount { id: LAB_ACCOUNT, kind: "LAB", role: LAB_ROLE }),
            (None, true) => Some(OtherAccount { id: PROD_ACCOUNT, kind: "PROD", role: PROD_ROLE }),
            (None, false) => None,
        }
    }

    /// Enters another account into the registry, with the role that opens it.
    fn registers(&self, world: &mut World) {
        let Some(OtherAccount { id, kind, role }) = self.registered() else { return };
        let row = json!({"account_id": {"S": id}, "environment_type": {"S": kind}, "role_arn": {"S": role}});
        // The table takes every row of this shape.
        let _ = world.tables.put(ACCOUNTS, &row);
        world.sessions.roles.insert(role.to_owned(), RoleTrust::default());
    }

    /// Tells the oracles the settings in force, and begins the ledger of a stand-alone instance.
    fn sets_the_oracles(&self, world: &mut World) {
        let mut settings = settings::in_force(&world.tables, self.account());
        // The input of a node's swap may set the time of its drain.
        let seconds = self.input.get("drain_timeout_seconds").and_then(Value::as_u64);
        if let Some(seconds) = seconds.and_then(|seconds| u32::try_from(seconds).ok()) {
            settings.drain_timeout_seconds = seconds;
        }
        if self.lab.is_some() {
            let terminates_old = self.terminates_old(&settings);
            world.oracles.lab = Some(LabLedger::of(&world.fleet, &self.first_instance(), terminates_old));
        }
        world.oracles.follow(settings, &world.fleet);
    }

    fn terminates_old(&self, settings: &Settings) -> bool {
        let is_captured = self.input.get("capture_image") == Some(&json!(true));
        is_captured && settings.lab_old_instance == OldInstance::Terminate
    }

    /// Returns the account of the group, or of the stand-alone instance.
    #[must_use]
    pub fn account(&self) -> &'static str {
        self.registered().map_or(ACCOUNT, |other| other.id)
    }

    /// Returns the executions that a user starts: state machine, name and input.
    #[must_use]
    pub fn starts(&self) -> Vec<(&'static str, String, Value)> {
        if self.is_quiet {
            return Vec::new();
        }
        let (machine, mut input) = match (&self.nodes, &self.lab) {
            (Some(cluster), _) => {
                (NODE_SWAP, json!({"instance_id": self.first_member(), "cluster_name": cluster.name}))
            }
            (None, Some(_)) => (LAB_SWAP, json!({"instance_id": self.first_instance()})),
            (None, None) => (CLUSTER_SWAP, json!({"asg_name": self.group.name})),
        };
        if let Some(other) = self.registered() {
            input["account_id"] = json!(other.id);
        }
        for (field, value) in &self.input {
            input[field] = value.clone();
        }
        vec![(machine, "by-hand".to_owned(), input)]
    }

    /// Returns the first member of the group at the beginning.
    #[must_use]
    pub fn first_member(&self) -> String {
        let fleet = Fleet::with_group(&self.group, self.habits.clone(), BEGIN);
        let members = fleet.group(&self.group.name).map(|group| group.members.as_slice());
        members.into_iter().flatten().next().map(|member| member.instance_id.clone()).unwrap_or_default()
    }

    /// Returns the first instance of the account at the beginning.
    #[must_use]
    pub fn first_instance(&self) -> String {
        self.fleet().instances().keys().next().cloned().unwrap_or_default()
    }

    /// The first events of the history; later ones happen in their time.
    pub fn begin(&self, network: &Network) {
        network.world().remembers();
        for (at, happens) in self.happenings.clone() {
            let network = network.clone();
            if at.is_zero() {
                happens(&mut network.world());
                continue;
            }
            spawn_local(async move {
                sleep(at).await;
                let mut world = network.world();
                world.chronicle.notes("something happens besides");
                happens(&mut world);
            });
        }
    }

    /// Returns the variables that the template sets.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let variables = [
            ("AWS_REGION", REGION),
            ("STACK_NAME", "spot-optimizer"),
            ("STACK_ACCOUNT_ID", ACCOUNT),
            ("STACK_ROLE", "standalone"),
            ("ENVIRONMENT_TYPE", "PROD"),
            ("ROLE_SESSION_NAME", "spot-optimizer-run"),
            ("SPOT_POOL_RISK_TABLE", POOL_RISK),
            ("ACCOUNTS_TABLE", ACCOUNTS),
            ("SETTINGS_TABLE", SETTINGS),
            ("SWAPS_TABLE", SWAPS),
            ("SIGHTINGS_TABLE", SIGHTINGS),
            ("GROUPS_TABLE", GROUPS),
            ("ALERTS_TOPIC_ARN", TOPIC),
            ("NOTICES_BUS_ARN", NOTICES_BUS),
            ("FORWARDING_ACCOUNT_IDS", self.registered().map_or("", |other| other.id)),
            ("RISK_MANAGER_ARN", RISK_MANAGER),
            ("ALLOW_DRILLS", "true"),
            ("CONTINUOUS", "true"),
            ("CLUSTER_SWAP_STATE_MACHINE_ARN", CLUSTER_SWAP),
            ("NODE_SWAP_STATE_MACHINE_ARN", NODE_SWAP),
            ("LAB_SWAP_STATE_MACHINE_ARN", LAB_SWAP),
            ("RESPONSE_STATE_MACHINE_ARN", crate::executions::INTERRUPTION_RESPONSE),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }
}

/// Returns the mailbox with the rule that hands interruptions to the risk manager, or to the bus of the stack.
fn mailbox(target: &str) -> Mailbox {
    let mut mailbox = Mailbox::new(ACCOUNT, TOPIC);
    let pattern = json!({
        "source": ["aws.ec2", "aws.autoscaling"],
        "detail-type": [
            "EC2 Spot Instance Interruption Warning",
            "EC2 Instance Rebalance Recommendation",
            "EC2 Instance Launch Successful",
        ],
    });
    let rule = EventRule {
        state: "ENABLED".to_owned(),
        pattern: Some(pattern.to_string()),
        targets: vec![json!({"Id": "1", "Arn": target})],
    };
    mailbox.rules.insert((REGION.to_owned(), "spot-optimizer-notices".to_owned()), rule);
    mailbox
}

/// Returns the tables of the stack, with their keys and times to live in `template.yaml`.
fn tables() -> Tables {
    let spec = |name: &str, hash: &str, ttl: Option<&str>| TableSpec {
        name: name.to_owned(),
        hash: hash.to_owned(),
        range: None,
        ttl: ttl.map(str::to_owned),
    };
    Tables::new([
        spec(POOL_RISK, "pool", Some("poison_expires_at")),
        spec(ACCOUNTS, "account_id", None),
        spec(SETTINGS, "scope", None),
        spec(SWAPS, "target", Some("expires_at")),
        spec(GROUPS, "group", Some("expires_at")),
        TableSpec { range: Some("account_id".to_owned()), ..spec(SIGHTINGS, "subject", Some("expires_at")) },
    ])
}
