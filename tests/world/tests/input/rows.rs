//! Rows of the tables that somebody has spoilt: one attribute is missing, of another type, or garbage.

use std::time::Duration;

use serde_json::{Value, json};
use spot_domain::settings::Settings;
use spot_world::arrival::{Arrival, Handled};
use spot_world::campaign::side_by_side;
use spot_world::executions::{CLUSTER_SWAP, LAB_SWAP};
use spot_world::fault::Plan;
use spot_world::fleet::GroupSpec;
use spot_world::lambda::Function;
use spot_world::machine::Outcome;
use spot_world::mutation::Mutation;
use spot_world::oracles::{GROUPS, POOL_RISK, SWAPS};
use spot_world::scene::{ACCOUNTS, LAB_ACCOUNT, LAB_ROLE, SETTINGS, Scene};
use spot_world::tables::attribute::to_json;
use spot_world::virtual_time::BEGIN;

use super::judge::{arrivals, handled, share, unwritten};
use crate::holds::play_or_tell;

const POOL: &str = "us-east-1#use1-az1#m5.large";
/// The seconds of the default of the setting `poison_days`.
const POISON_LASTS: i64 = 15 * 24 * 3600;
/// The reconciler leaves an execution that has just ended alone for some minutes.
const LONG_ENOUGH: Duration = Duration::from_mins(10);

/// A group of one zone that may launch two types, with this row in a table.
fn with_row(table: &str, row: Value) -> Scene {
    let tags = [("spot-optimizer:enabled".to_owned(), "true".to_owned())].into();
    let overrides = ["m5.large", "m5a.large"].map(str::to_owned).to_vec();
    let group = GroupSpec { zones: 1, overrides, tags, ..GroupSpec::default() };
    Scene { group, rows: vec![(table.to_owned(), row)], ..Scene::default() }
}

/// Returns the row of a pool whose poison was over long ago, with this in the place of one attribute; `None` leaves it out.
fn pool_row(attribute: &str, value: Option<&Value>) -> Value {
    let mut row = json!({
        "pool": {"S": POOL}, "is_poisoned": {"BOOL": false}, "poisoned_at": {"N": "1700000000"},
        "poison_expires_at": {"N": "1701296000"}, "cause": {"S": "a test"}, "interruptions": {"N": "1"},
    });
    match value {
        Some(value) => row[attribute] = value.clone(),
        None => drop(row.as_object_mut().and_then(|row| row.remove(attribute))),
    }
    row
}

/// Plays the swap of a group, and returns the type of its Spot member.
fn swapped_to(row: Value) -> String {
    let ended = play_or_tell(&with_row(POOL_RISK, row), Plan::none());
    let spot = ended.world.fleet.instances().values().filter(|instance| instance.is_spot());
    let types: Vec<&str> = spot.map(|instance| instance.instance_type.as_str()).collect();
    types.join(", ")
}

#[test]
fn a_pool_whose_row_can_t_be_read_is_closed() {
    assert_eq!(swapped_to(pool_row("cause", None)), "m5.large", "a row that can be read opens it");
    let flags = [json!({"S": "false"}), json!({"N": "0"}), json!({"NULL": true}), json!({"L": []})];
    let times =
        [json!({"S": "1701296000"}), json!({"N": "0.5"}), json!({"N": "-99999999999999"}), json!({"M": {}})];
    let spoilt = |attribute: &'static str, values: [Value; 4]| {
        values.into_iter().map(Some).chain([None]).map(move |value| (attribute, value))
    };
    let rows: Vec<_> = spoilt("is_poisoned", flags).chain(spoilt("poison_expires_at", times)).collect();
    for (attribute, value) in share(&rows, 4) {
        let row = pool_row(attribute, value.as_ref());
        assert_eq!(swapped_to(row), "m5a.large", "{attribute}: {value:?}");
    }
}

/// Returns each setting with a value that it can't have.
fn spoilt_settings() -> Vec<(String, Value)> {
    let garbage = [json!({"M": {}}), json!({"NULL": true}), json!({"N": "-1"})];
    let fields = Settings::reference().into_iter();
    let each = fields.flat_map(|field| garbage.clone().map(|value| (field.name.to_owned(), value)));
    each.chain([("max_swap".to_owned(), json!({"N": "1"}))]).collect()
}

fn settings_with(field: &str, value: &Value) -> Scene {
    let mut row = json!({"scope": {"S": "global"}});
    row[field] = value.clone();
    with_row(SETTINGS, row)
}

fn discover(scene: &Scene, input: &Value) -> Arrival {
    let execution = format!("{}:by-hand", CLUSTER_SWAP.replace(":stateMachine:", ":execution:"));
    let event = json!({"phase": "Discover", "execution": execution, "input": input});
    Arrival::at_beginning(scene, Function::ClusterOptimizer, event)
}

/// Gives a function its input. It must refuse it by this name, and write nothing.
fn refuses(scene: &Scene, arrival: &Arrival, name: &str) -> Result<(), String> {
    let handled = handled(scene, arrival, &arrival.event)?;
    match handled.refusal() {
        Some(refusal) if refusal.contains(name) => unwritten(&handled),
        other => Err(format!("{other:?} does not name {name}")),
    }
}

fn holds_for<T: Sync>(cases: &[T], each: impl Fn(&T) -> Result<(), String> + Sync) {
    let broken: Vec<String> = side_by_side(cases, |case| each(case).err()).into_iter().flatten().collect();
    assert!(
        !cases.is_empty() && broken.is_empty(),
        "{} of {}:\n{}",
        broken.len(),
        cases.len(),
        broken.join("\n")
    );
}

#[test]
fn a_setting_that_can_t_be_applied_stops_a_swap_by_its_name() {
    holds_for(&share(&spoilt_settings(), 30), |(field, value)| {
        let scene = settings_with(field, value);
        refuses(&scene, &discover(&scene, &json!({"asg_name": "web"})), field)
            .map_err(|broken| format!("{field} {value}: {broken}"))
    });
}

#[test]
fn a_setting_that_can_t_be_applied_has_its_default_for_a_notice() {
    let notice = |id: &str| {
        json!({
            "version": "0", "id": "1", "detail-type": "EC2 Spot Instance Interruption Warning",
            "source": "aws.ec2", "account": "123456789012", "time": BEGIN.to_string(), "region": "us-east-1",
            "resources": [], "detail": {"instance-id": id, "instance-action": "terminate"},
        })
    };
    holds_for(&share(&spoilt_settings(), 12), |(field, value)| {
        let scene = settings_with(field, value);
        let group = GroupSpec { spot: 1, ..scene.group.clone() };
        let scene = Scene { group, ..scene };
        let notice = notice(&scene.first_member());
        let arrival = Arrival::at_beginning(&scene, Function::RiskManager, notice);
        let handled = handled(&scene, &arrival, &arrival.event)?;
        let row = handled.world.tables.item(POOL_RISK, POOL, None).map(to_json);
        let until = row.as_ref().map(|row| &row["poison_expires_at"]["N"]);
        let expected = json!((BEGIN.as_second() + POISON_LASTS).to_string());
        let holds = until == Some(&expected);
        holds.then_some(()).ok_or_else(|| format!("{field} {value}: {row:?} after {:?}", handled.answer))
    });
}

#[test]
fn the_loop_starts_nothing_under_a_setting_that_can_t_be_applied_and_names_it() {
    holds_for(&share(&spoilt_settings(), 8), |(field, value)| {
        watched_and_named(&settings_with(field, value), field)
    });
}

/// A sweep. It must name the field in its answer and start no execution.
fn watched_and_named(scene: &Scene, field: &str) -> Result<(), String> {
    let arrival = Arrival::at_beginning(scene, Function::GroupWatcher, json!({}));
    let handled = handled(scene, &arrival, &arrival.event)?;
    // A field of the global scope fails the sweep, one of an account only that account.
    let failed = match &handled.answer {
        Ok(answer) => answer["failed"].to_string(),
        Err(failure) => failure.cause.clone(),
    };
    let is_named = failed.contains(field);
    let starts = handled.world.executions.all().count();
    (is_named && starts == 0).then_some(()).ok_or_else(|| format!("{field}: {failed:?}, {starts} started"))
}

#[test]
fn the_loop_starts_nothing_for_a_group_whose_memory_can_t_be_read_and_names_it() {
    let scene = with_row(GROUPS, json!({"group": {"S": "another"}}));
    let arrival = Arrival::at_beginning(&scene, Function::GroupWatcher, json!({}));
    let started = handled(&scene, &arrival, &arrival.event).unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(started.world.executions.all().count(), 1, "{:?}", started.answer);
    let arn = started.world.fleet.group("web").map(|group| group.arn.clone()).unwrap_or_default();
    let spoilt = ["failures", "pause_reason", "execution", "started_at", "instance_id"];
    let garbage = [json!({"M": {}}), json!({"BOOL": true})];
    let rows: Vec<_> =
        spoilt.iter().flat_map(|field| garbage.iter().map(move |value| (field, value))).collect();
    holds_for(&share(&rows, 6), |(field, value)| {
        let mut row = json!({"group": {"S": arn}});
        row[**field] = (*value).clone();
        watched_and_named(&with_row(GROUPS, row), field)
    });
}

#[test]
fn an_account_whose_row_can_t_be_read_is_not_worked_in() {
    let spoilt = [
        ("environment_type", json!({"N": "1"})),
        ("environment_type", json!({"S": "lab"})),
        ("environment_type", json!({"S": ""})),
        ("role_arn", json!({"NULL": true})),
        ("role_arn", json!({"S": "arn:aws:iam::999999999999:role/spot-optimizer"})),
        ("enabled", json!({"S": "true"})),
        ("member", json!({"N": "0"})),
        ("enabeld", json!({"BOOL": true})),
    ];
    holds_for(&spoilt, |(field, value)| {
        let mut row = json!({
            "account_id": {"S": LAB_ACCOUNT}, "environment_type": {"S": "LAB"}, "role_arn": {"S": LAB_ROLE},
        });
        row[*field] = value.clone();
        let scene = Scene { rows: vec![(ACCOUNTS.to_owned(), row)], ..Scene::of_instance() };
        let execution = format!("{}:by-hand", LAB_SWAP.replace(":stateMachine:", ":execution:"));
        let input = json!({"instance_id": scene.first_instance(), "account_id": LAB_ACCOUNT});
        let event = json!({"phase": "Discover", "execution": execution, "input": input});
        let arrival = Arrival::at_beginning(&scene, Function::LabOptimizer, event);
        refuses(&scene, &arrival, field).map_err(|broken| format!("{field} {value}: {broken}"))
    });
}

/// The reconciler's schedule, some minutes after the swap of a full group has died as its newcomer was in the group.
fn after_a_death(scene: &Scene) -> Arrival {
    let mut steps = arrivals(scene).into_iter();
    let died = steps.find(|step| step.event["phase"] == "WaitForInService");
    let mut died = died.unwrap_or_else(|| panic!("no newcomer comes into the group"));
    let running: Vec<String> = died.world.executions.all().map(|(arn, _)| arn.clone()).collect();
    let at = BEGIN.saturating_add(died.after).unwrap_or(BEGIN);
    for arn in running {
        died.world.executions.end(&arn, Outcome::Aborted, at);
    }
    let event = json!({"source": "aws.events"});
    Arrival { function: Function::Reconciler, event, after: died.after + LONG_ENOUGH, ..died }
}

/// Gives the reconciler this row in the place of the one of the dead swap.
fn reconciled(scene: &Scene, arrival: &Arrival, row: &Value) -> Result<Handled, String> {
    let mut arrival = arrival.clone();
    arrival.world.tables.put(SWAPS, row).map_err(|error| format!("{row}: {error:?}"))?;
    handled(scene, &arrival, &arrival.event)
}

/// Returns the row of the dead swap.
fn row_of(arrival: &Arrival) -> Value {
    let mut held = arrival.world.tables.items(SWAPS).filter(|row| row.contains_key("lease_owner"));
    held.next().map_or_else(|| panic!("no lease is held"), to_json)
}

fn full_group() -> Scene {
    Scene { group: GroupSpec::full_behind_load_balancer(), ..Scene::default() }
}

#[test]
fn the_reconciler_acts_on_no_row_that_it_can_t_read() {
    let scene = full_group();
    let arrival = after_a_death(&scene);
    let row = row_of(&arrival);
    let acted = reconciled(&scene, &arrival, &row).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(!acted.changes().is_empty(), "it acts on the row as it is: {:?}", acted.answer);
    let spoilt: Vec<_> = ["leased", "account_id", "region", "lease_since", "journal", "revision"]
        .into_iter()
        .flat_map(|name| {
            [Some(json!({"M": {}})), Some(json!({"S": "garbage"})), None].map(|value| (name, value))
        })
        .filter(|(name, value)| !(*name == "revision" && value.is_none())) // An older release wrote none.
        .chain([("lease_owner", Some(json!({"S": "garbage"}))), ("lease_owner", Some(json!({"M": {}})))])
        .collect();
    holds_for(&spoilt, |(name, value)| {
        let mut row = row.clone();
        match value {
            Some(value) => row[*name] = value.clone(),
            None => drop(row.as_object_mut().and_then(|row| row.remove(*name))),
        }
        let handled = reconciled(&scene, &arrival, &row)?;
        let refusal = handled.refusal().filter(|refusal| refusal.contains(name));
        refusal.ok_or_else(|| format!("{name} {value:?}: {:?} does not name it", handled.answer))?;
        unwritten(&handled).map_err(|changes| format!("{name} {value:?}: {changes}"))
    });
}

/// A field that may be missing has its default: then the promises hold, and the reconciler may act.
#[test]
fn the_reconciler_acts_on_no_journal_that_it_can_t_read() {
    let scene = full_group();
    let arrival = after_a_death(&scene);
    let row = row_of(&arrival);
    let text = row["journal"]["S"].as_str().unwrap_or_default();
    let journal: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mutations = Mutation::each(&journal);
    assert!(mutations.len() > 100, "{journal}");
    holds_for(&share(&mutations, 60), |mutation| {
        let changed = mutation.of(&journal).ok_or("nothing is changed")?;
        let mut row = row.clone();
        row["journal"] = json!({"S": changed.to_string()});
        let handled =
            reconciled(&scene, &arrival, &row).map_err(|broken| format!("{mutation:?}: {broken}"))?;
        match handled.refusal() {
            Some(refusal) if refusal.contains("Swaps table: journal") => {
                unwritten(&handled).map_err(|changes| format!("{mutation:?}: {changes}, and {refusal}"))
            }
            _ => Ok(()),
        }
    });
}
