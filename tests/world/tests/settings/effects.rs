//! What each setting does: two values of it, and what a history shows of each. In one history, the row of account and region
//! has the one value, and that of the account the other. In a second one, these are the rows of the account and of the global
//! scope. The nearer counts.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use spot_domain::settings::Settings;
use spot_world::acts::Act;
use spot_world::campaign::side_by_side;
use spot_world::cluster::{ClusterSpec, WorkloadKind, WorkloadSpec};
use spot_world::executions::NODE_SWAP;
use spot_world::fault::Plan;
use spot_world::fleet::{AwsHabits, GroupSpec, PoolRefusal};
use spot_world::history::{Ended, play};
use spot_world::scene::{Happening, SETTINGS, Scene};
use spot_world::settings::{GLOBAL, row_of, scopes_of};
use spot_world::virtual_time::now;

use super::none_is_broken;
use super::seen;
use crate::holds::scene;

/// A value of a setting, and what is seen of it.
type Shown = (Value, RangeInclusive<i64>);

/// The effect of a setting.
struct Effect {
    setting: &'static str,
    scene: Scene,
    seen: fn(&Ended) -> i64,
    values: [Shown; 2],
}

fn effect(
    setting: &'static str,
    scene: Scene,
    seen: fn(&Ended) -> i64,
    one: (impl Into<Value>, RangeInclusive<i64>),
    other: (impl Into<Value>, RangeInclusive<i64>),
) -> Effect {
    Effect { setting, scene, seen, values: [(one.0.into(), one.1), (other.0.into(), other.1)] }
}

/// The settings of the swap of a group.
fn of_groups() -> Vec<Effect> {
    let (two, full) = (|| group_of(2), || scene("full-group"));
    vec![
        effect("blind_gate", unheard(), seen::spot, ("refuse", 0..=0), ("allow", 1..=1)),
        effect("max_swaps", two(), seen::spot, (1, 1..=1), (2, 2..=2)),
        effect(
            "steps_per_execution",
            scene("full-group-of-two"),
            seen::executions,
            (10, 2..=2),
            (2_000, 1..=1),
        ),
        effect("launch_ahead", scene("launch-ahead"), seen::launched_ahead, (1, 1..=1), (10, 2..=4)),
        effect("min_on_demand", two(), seen::spot, (1, 1..=1), (0, 2..=2)),
        // Spot costs 35 % of On-Demand.
        effect("min_saving_percent", two(), seen::spot, (70, 0..=0), (60, 2..=2)),
        effect("max_failures_in_a_row", failing(group_of(3)), seen::rolled_back, (1, 1..=1), (2, 2..=2)),
        effect("opt_out_tag", tagged("hands-off"), seen::spot, ("hands-off", 0..=0), ("other", 1..=1)),
        effect("instance_types", short(), seen::spot, ("c5.large", 1..=1), ("m5.large", 0..=0)),
        effect("health_timeout_seconds", slow_checks(300), seen::spot, (60, 0..=0), (600, 1..=1)),
        effect("in_service_timeout_seconds", slow_targets(300), seen::spot, (60, 0..=0), (900, 1..=1)),
        effect("retire_timeout_seconds", slow_drain(), seen::successes, (60, 0..=0), (3_900, 1..=1)),
        effect("rollback_timeout_seconds", put_back(), seen::successes, (1, 0..=0), (3_900, 1..=1)),
        effect("poll_seconds", full(), seen::looks_at_checks, (1, 4..=12), (300, 1..=2)),
        effect(
            "launch_visible_after_seconds",
            put_back(),
            seen::seconds_of_run,
            (100, 1..=1_100),
            (1_200, 1_200..=20_000),
        ),
        effect(
            "reconcile_after_seconds",
            timed_out(),
            seen::reconciler_waits,
            (65, 65..=600),
            (1_800, 1_800..=2_400),
        ),
        effect("write_group_tags", full(), seen::has_run_tag, (false, 0..=0), (true, 1..=1)),
    ]
}

/// The settings of the swaps of nodes and stand-alone instances.
fn of_others() -> Vec<Effect> {
    let (node, image) = (|| scene("node"), || scene("lab-image"));
    vec![
        effect("node_ready_timeout_seconds", node(), seen::swapped, (1, 0..=0), (300, 1..=1)),
        effect("drain_timeout_seconds", scene("node-with-budget"), seen::swapped, (1, 0..=0), (1_800, 1..=1)),
        effect("max_unavailable_nodes", two_swaps_of_nodes(), seen::successes, (1, 1..=1), (2, 2..=2)),
        effect("lab_old_instance", image(), seen::stops, ("terminate", 0..=0), ("stop", 1..=9)),
        // An image takes three minutes.
        effect("image_timeout_seconds", image(), seen::swapped, (60, 0..=0), (7_200, 1..=1)),
    ]
}

/// The settings of notices and of the loop.
fn of_notices_and_loop() -> Vec<Effect> {
    let interrupted = || noticed(Act::MemberIsInterrupted(0, 1));
    let at_risk = || noticed(Act::MemberIsAtRisk(0));
    vec![
        effect("poison_days", interrupted(), seen::days_of_poison, (1, 1..=1), (365, 365..=365)),
        effect("rebalance_poison_days", at_risk(), seen::days_of_poison, (1, 1..=1), (365, 365..=365)),
        effect("rebalance_poisons", at_risk(), seen::days_of_poison, (false, 0..=0), (true, 15..=15)),
        effect("poison_threshold_accounts", interrupted(), seen::days_of_poison, (2, 0..=0), (1, 15..=15)),
        effect("max_at_risk_percent", at_risk(), seen::executions, (0, 0..=0), (100, 1..=1)),
        effect("enrolment", one_enrolled(), seen::spot, ("opt-out", 2..=2), ("opt-in", 1..=1)),
        // The members are an hour old.
        effect("settle_seconds", one_enrolled(), seen::loop_starts, (0, 0..=60), (7_200, 3_600..=5_400)),
        effect("max_groups_at_once", two_enrolled(), seen::runs_at_once, (1, 1..=1), (5, 2..=2)),
        effect("max_failed_runs", failing_loop(), seen::runs_of_loop, (1, 1..=1), (2, 2..=2)),
    ]
}

/// The settings whose effect no history of the world shows. Each has the file and the name of a test that sets it, and shows
/// its effect.
const ELSEWHERE: [(&str, &str, &str); 15] = [
    (
        "max_poisons_per_account_per_hour",
        "tests/e2e/test_hub.py",
        "test_a_flood_is_muted_and_told_and_a_replay_does_not_count",
    ),
    (
        "max_poisons_per_account_per_day",
        "tests/e2e/test_hub.py",
        "test_an_account_that_stays_below_every_hours_limit_is_muted_for_the_day",
    ),
    (
        "max_poisoned_share_of_region",
        "tests/e2e/test_risk_manager.py",
        "test_too_large_a_poisoned_share_is_said_and_stops_nothing",
    ),
    (
        "evict_local_storage",
        "tests/e2e/test_node_refusals.py",
        "test_a_pod_with_local_data_goes_if_the_setting_lets_it",
    ),
    ("evict_unmanaged", "tests/e2e/test_node_refusals.py", "test_a_pod_that_nobody_would_bring_back"),
    (
        "kubeconfig_secrets",
        "tests/e2e/test_node_swap.py",
        "test_a_self_managed_cluster_is_reached_by_the_kubeconfig_of_a_secret",
    ),
    ("grace_hours", AUDIT, "grace_and_gap_of_the_settings_say_when_an_instance_is_due"),
    ("audit_gap_minutes", AUDIT, "grace_and_gap_of_the_settings_say_when_an_instance_is_due"),
    ("owner_marks", AUDIT, "owner_marks_of_the_settings_say_which_tag_authorises_an_instance"),
    ("group_marks", TERMINATE, "a_member_of_a_group_that_is_not_trusted_is_flagged_and_never_terminated"),
    ("max_terminations_per_run", TERMINATE, "one_more_than_a_run_may_terminate_and_none_goes"),
    ("max_terminations_percent", TERMINATE, "a_tenth_of_the_running_may_go_and_not_one_more"),
    ("volume_min_age_days", WASTE, "only_more_than_the_minimum_age_is_waste"),
    ("snapshot_min_age_days", WASTE, "only_more_than_the_minimum_age_is_waste"),
    ("storage_marks", WASTE, "an_owners_own_mark_keeps_storage_and_a_near_miss_does_not"),
];
const AUDIT: &str = "functions/security-enforcer/tests/audit.rs";
const TERMINATE: &str = "functions/security-enforcer/tests/terminate.rs";
const WASTE: &str = "shared/domain/src/waste/rules.rs";

/// A setting that the code reads, and of which no test shows that another value has another effect.
const UNSHOWN: [&str; 1] = ["scan_parallelism"];

fn effects() -> Vec<Effect> {
    [of_groups(), of_others(), of_notices_and_loop()].into_iter().flatten().collect()
}

#[test]
fn each_setting_has_its_effect_from_the_nearest_row() {
    let effects = effects();
    let histories: Vec<(&Effect, usize)> =
        effects.iter().flat_map(|effect| [0, 1].map(|nearer| (effect, nearer))).collect();
    let broken = side_by_side(&histories, |(effect, nearer)| effect.shows(*nearer).err());
    let broken: Vec<String> = broken.into_iter().flatten().collect();
    none_is_broken(&broken, histories.len());
}

#[test]
fn every_setting_has_an_effect_here_or_a_test_elsewhere() {
    let shown = effects().into_iter().map(|effect| effect.setting);
    let mut named: Vec<&str> = shown.chain(ELSEWHERE.map(|(setting, ..)| setting)).chain(UNSHOWN).collect();
    named.sort_unstable();
    let mut all: Vec<&str> = Settings::reference().iter().map(|setting| setting.name).collect();
    all.sort_unstable();
    assert_eq!(named, all);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (setting, path, test) in ELSEWHERE {
        let file = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let body = body_of(&file, test).unwrap_or_else(|| panic!("{path} has no {test}"));
        assert!(body.contains(setting), "{test} of {path} does not set {setting}");
    }
}

/// Returns what a file of Rust or Python has between the name of this function and the next function.
fn body_of<'a>(file: &'a str, function: &str) -> Option<&'a str> {
    ["fn ", "def "].into_iter().find_map(|keyword| {
        let (_, rest) = file.split_once(&format!("{keyword}{function}("))?;
        rest.split(keyword).next()
    })
}

impl Effect {
    /// Plays the scene with one value in a row, and the other in the next further one. The first value is in the row of account
    /// and region, the second in that of the account.
    fn shows(&self, nearer: usize) -> Result<(), String> {
        let scopes = scopes_of(self.scene.account());
        let (value, expected) = &self.values[nearer];
        let rows = [(&scopes[nearer], value), (&scopes[nearer + 1], &self.values[1 - nearer].0)];
        let scene =
            rows.iter().fold(self.scene.clone(), |scene, (scope, value)| self.with(scene, scope, value));
        let told = || format!("{} with {rows:?}", self.setting);
        let ended = play(&scene, Plan::none(), 1).map_err(|broken| format!("{}: {broken}", told()))?;
        let seen = (self.seen)(&ended);
        let holds = expected.contains(&seen);
        holds
            .then_some(())
            .ok_or_else(|| format!("{}: {seen}, not {expected:?}\n{}", told(), ended.world.chronicle))
    }

    /// Adds the value to the row of a scope. The scene's own settings are of the global scope.
    fn with(&self, mut scene: Scene, scope: &str, value: &Value) -> Scene {
        let setting = self.setting.to_owned();
        if scope == GLOBAL {
            scene.settings.insert(setting, value.clone());
        } else {
            let row = row_of(scope, &BTreeMap::from([(setting, value.clone())]));
            scene.rows.push((SETTINGS.to_owned(), row));
        }
        scene
    }
}

/// A group of so many, with room for one more.
fn group_of(size: u32) -> Scene {
    Scene { group: GroupSpec { size, max: size + 1, ..GroupSpec::default() }, ..Scene::default() }
}

fn with_setting(mut scene: Scene, setting: &str, value: u32) -> Scene {
    scene.settings.insert(setting.to_owned(), json!(value));
    scene
}

fn from_the_beginning(scene: Scene, happens: Happening) -> Scene {
    Scene { happenings: vec![(Duration::ZERO, happens)], ..scene }
}

/// Nobody hands interruptions to the stack.
fn unheard() -> Scene {
    from_the_beginning(group_of(1), |world| world.mailbox.rules.clear())
}

/// There is no Spot capacity for the group's own type.
fn short() -> Scene {
    from_the_beginning(group_of(1), |world| {
        world.fleet.refuse_launches(PoolRefusal {
            is_spot: Some(true),
            zone: None,
            ..PoolRefusal::insufficient_capacity("m5.large", "any")
        });
    })
}

/// The group bears this tag.
fn tagged(key: &str) -> Scene {
    let mut scene = group_of(1);
    scene.group.tags.insert(key.to_owned(), "true".to_owned());
    scene
}

/// Newcomers pass their status checks so many seconds after their launch.
fn slow_checks(seconds: i64) -> Scene {
    let passes_checks_after = SignedDuration::from_secs(seconds);
    Scene { habits: AwsHabits { passes_checks_after, ..AwsHabits::default() }, ..group_of(1) }
}

/// No newcomer ever passes its status checks.
fn failing(scene: Scene) -> Scene {
    let Scene { habits, .. } = slow_checks(9 * 3_600);
    with_setting(Scene { habits, ..scene }, "health_timeout_seconds", 60)
}

/// Targets turn healthy so many seconds after their registration.
fn slow_targets(seconds: i64) -> Scene {
    let turns_healthy_after = SignedDuration::from_secs(seconds);
    Scene { habits: AwsHabits { turns_healthy_after, ..AwsHabits::default() }, ..scene("full-group") }
}

/// The newcomer never turns healthy in its target group.
fn put_back() -> Scene {
    with_setting(slow_targets(9 * 3_600), "in_service_timeout_seconds", 60)
}

/// The old instance drains for five minutes.
fn slow_drain() -> Scene {
    let mut scene = scene("full-group");
    scene.group.deregistration_delay = SignedDuration::from_secs(300);
    scene
}

/// The execution runs out of time while its newcomer starts.
fn timed_out() -> Scene {
    Scene { machine_timeout: Some(60), ..group_of(1) }
}

/// Two groups of nodes that have no pods to move. A second swap begins beside the first.
fn two_swaps_of_nodes() -> Scene {
    let begins: Happening = |world| {
        let members = world.fleet.group("worker").map(|group| group.members.clone()).unwrap_or_default();
        let node = members.first().map(|member| member.instance_id.clone()).unwrap_or_default();
        let input = json!({"instance_id": node, "cluster_name": "shop"});
        let _ = world.executions.start(NODE_SWAP, "second", input, now());
    };
    let workloads = vec![WorkloadSpec::of(WorkloadKind::DaemonSet, "agent", 0)];
    let nodes = Some(ClusterSpec { workloads, budgets: Vec::new(), ..ClusterSpec::default() });
    let other_groups = vec![GroupSpec { name: "worker".to_owned(), ..GroupSpec::default() }];
    Scene { nodes, other_groups, happenings: vec![(Duration::from_secs(30), begins)], ..group_of(1) }
}

/// A notice for the first of two Spot members, of which the risk manager hears.
fn noticed(act: Act) -> Scene {
    Scene { acts: vec![(10, act)], to_risk_manager: vec![vec![0]], ..scene("notice-with-room") }
}

/// A group with the loop's tag, and one without it.
fn one_enrolled() -> Scene {
    Scene { once_on_spot: Vec::new(), ..scene("loop") }
}

fn two_enrolled() -> Scene {
    let worker = GroupSpec { name: "worker".to_owned(), ..one_enrolled().group };
    Scene { other_groups: vec![worker], ..one_enrolled() }
}

/// Every run of the loop fails, and the loop has four hours.
fn failing_loop() -> Scene {
    Scene { may_stay: true, acts: vec![(4 * 3_600, Act::CapacityIsBack)], ..failing(one_enrolled()) }
}
