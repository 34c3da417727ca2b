//! A refusal names its reason, and changes nothing in AWS. Our own tables aside: the lease is back at rest, as after every
//! history. A dry run does not even write there.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use spot_world::acts::Act;
use spot_world::chronicle::SentCall;
use spot_world::fault::Plan;
use spot_world::fleet::{AutoScalingGroup, GroupSpec, LifecycleHook};
use spot_world::history::Ended;
use spot_world::machine::Outcome;
use spot_world::scene::{ACCOUNTS, Happening, LAB_ACCOUNT, LAB_ROLE, Scene};
use spot_world::wire::Service;
use spot_world::world::World;

use crate::holds::{play_or_tell, poison, put, scene};

/// The pool of the first instance, in a group and alone.
const POOL: &str = "us-east-1#use1-az1#m5.large";

/// A reason for a refusal: what the outcome names, and what there is from the beginning.
struct Refusal {
    names: &'static [&'static str],
    because: Happening,
}

fn named(names: &'static [&'static str], because: Happening) -> Refusal {
    Refusal { names, because }
}

fn group(world: &mut World) -> &mut AutoScalingGroup {
    world.fleet.group_mut("web").unwrap_or_else(|| panic!("no group"))
}

fn tag_group(world: &mut World, key: &str, value: &str) {
    group(world).tags.insert(key.to_owned(), (value.to_owned(), false));
}

fn shows(world: &mut World, xml: &str) {
    group(world).shows_besides.push_str(xml);
}

fn first(world: &World) -> String {
    world.fleet.instances().keys().next().cloned().unwrap_or_default()
}

fn tag_instance(world: &mut World, key: &str, value: &str) {
    let id = first(world);
    world.fleet.tag_instance(&id, key, Some(value));
}

fn protect_from_termination(world: &mut World) {
    let id = first(world);
    world.fleet.protect_from_termination(&id, true);
}

fn nobody_hears_of_interruptions(world: &mut World) {
    world.mailbox.rules.clear();
}

fn spot_prices_rise(world: &mut World) {
    world.befalls(Act::SpotPricesRise);
}

/// Plays a scene in which nothing of AWS may be changed. The tags by which a report is shown on the group are switched off.
fn changes_nothing(mut scene: Scene, names: &[&str]) {
    scene.settings.entry("write_group_tags".to_owned()).or_insert(json!(false));
    let ended = play_or_tell(&scene, Plan::none());
    let outcome = ended.executions["by-hand"].to_string();
    for name in names {
        assert!(outcome.contains(name), "{name:?} is not named: {outcome}");
    }
    let changes = changes(&ended, |call| {
        ![Service::DynamoDb, Service::Sns, Service::EventBridge].contains(&call.service)
    });
    assert!(changes.is_empty(), "{outcome}, after {changes:?}");
}

fn changes(ended: &Ended, counts: fn(&SentCall) -> bool) -> Vec<String> {
    let changes = ended.world.chronicle.calls.iter().filter(|call| !call.is_read && counts(call));
    changes.map(|call| format!("{} {}:{}", call.by, call.service, call.action)).collect()
}

fn first_member_of(name: &str, scene: &Scene) -> String {
    let world = scene.world(Plan::none());
    let members = world.fleet.group(name).map(|group| group.members.clone()).unwrap_or_default();
    members.first().map_or_else(|| panic!("{name} has no member"), |member| member.instance_id.clone())
}

fn each_changes_nothing(scene: &Scene, refusals: impl IntoIterator<Item = Refusal>) {
    for Refusal { names, because } in refusals {
        changes_nothing(Scene { happenings: vec![(Duration::ZERO, because)], ..scene.clone() }, names);
    }
}

#[test]
fn a_group_that_is_configured_against_a_swap_is_refused_by_name() {
    let refusals = [
        named(&["GroupNotSupported", "Launch is suspended"], |it| it.befalls(Act::OwnerSuspends("Launch"))),
        named(&["GroupNotSupported", "Terminate is suspended"], |it| {
            it.befalls(Act::OwnerSuspends("Terminate"));
        }),
        named(&["GroupNotSupported", "AddToLoadBalancer is suspended"], |it| {
            it.befalls(Act::OwnerSuspends("AddToLoadBalancer"));
        }),
        named(&["GroupNotSupported", "launching hook boot"], |it| {
            let hook = LifecycleHook { is_launching: true, ..LifecycleHook::at_termination(20) };
            group(it).hooks.push(LifecycleHook { name: "boot".to_owned(), ..hook });
        }),
        named(&["GroupNotSupported", "ECS"], |it| tag_group(it, "AmazonECSManaged", "true")),
        named(&["GroupNotSupported", "Elastic Beanstalk"], |it| {
            tag_group(it, "elasticbeanstalk:environment-name", "shop");
        }),
        named(&["GroupNotSupported", "spot-optimizer:min-on-demand"], |it| {
            tag_group(it, "spot-optimizer:min-on-demand", "many");
        }),
        named(&["GroupNotSupported", "spot-optimizer:ignore_launch_hooks"], |it| {
            tag_group(it, "spot-optimizer:ignore_launch_hooks", "true");
        }),
        named(&["GroupBusy", "refresh"], |it| group(it).refresh = Some("InProgress".to_owned())),
    ];
    each_changes_nothing(&Scene::default(), refusals);
}

#[test]
fn a_field_of_a_group_that_a_swap_can_t_honour_is_refused_by_name() {
    let refusals = [
        named(&["GroupNotSupported", "warm pool"], |it| {
            shows(it, "<WarmPoolConfiguration><MinSize>1</MinSize></WarmPoolConfiguration>");
        }),
        named(&["GroupNotSupported", "capacity in vcpu"], |it| {
            shows(it, "<DesiredCapacityType>vcpu</DesiredCapacityType>");
        }),
        named(&["GroupNotSupported", "Classic Load Balancer"], |it| {
            shows(it, "<LoadBalancerNames><member>old</member></LoadBalancerNames>");
        }),
        named(&["GroupNotSupported", "traffic source of type vpc-lattice"], |it| {
            let source = "<Identifier>arn:aws:vpc-lattice:x</Identifier><Type>vpc-lattice</Type>";
            shows(it, &format!("<TrafficSources><member>{source}</member></TrafficSources>"));
        }),
        named(&["GroupNotSupported", "capacity reservation"], |it| {
            let only =
                "<CapacityReservationPreference>capacity-reservations-only</CapacityReservationPreference>";
            shows(
                it,
                &format!("<CapacityReservationSpecification>{only}</CapacityReservationSpecification>"),
            );
        }),
        named(&["GroupNotSupported", "MaxHealthyPercentage 100"], |it| {
            let most = "<MinHealthyPercentage>90</MinHealthyPercentage><MaxHealthyPercentage>100</MaxHealthyPercentage>";
            shows(it, &format!("<InstanceMaintenancePolicy>{most}</InstanceMaintenancePolicy>"));
        }),
    ];
    each_changes_nothing(&Scene::default(), refusals);
}

#[test]
fn a_member_that_must_stay_is_left_alone_by_name() {
    let refusals = [
        named(&["SCALE_IN_PROTECTED"], |it| it.befalls(Act::OwnerProtects(0))),
        named(&["TERMINATION_PROTECTED"], protect_from_termination),
        named(&["OPTED_OUT", "spot-optimizer:opt-out"], |it| it.befalls(Act::OwnerOptsOut)),
        named(&["OPTED_OUT", "spot-optimizer:opt-out"], |it| {
            tag_instance(it, "spot-optimizer:opt-out", "true");
        }),
        named(&["OPTED_OUT", "spot-optimizer:opt_out"], |it| {
            tag_instance(it, "spot-optimizer:opt_out", "true");
        }),
        named(&["ON_DEMAND_FLOOR"], |it| tag_group(it, "spot-optimizer:min-on-demand", "1")),
        named(&["MANAGED_ELSEWHERE", "Amazon RDS Custom"], |it| tag_instance(it, "AWSRDSCustom", "db")),
        named(&["KUBERNETES_NODE"], |it| tag_instance(it, "kubernetes.io/cluster/shop", "owned")),
    ];
    each_changes_nothing(&Scene::default(), refusals);
}

#[test]
fn a_pool_that_is_not_clear_or_not_cheaper_is_launched_into_by_nobody() {
    let refusals = || {
        [
            named(&["POOL_POISONED"], |it| poison(it, &[POOL], SignedDuration::from_hours(1))),
            named(&["GATE_BLIND"], nobody_hears_of_interruptions),
            named(&["NOT_CHEAPER"], spot_prices_rise),
        ]
    };
    each_changes_nothing(&Scene::default(), refusals());
    each_changes_nothing(&Scene::of_instance(), refusals());
}

#[test]
fn an_instance_that_is_not_the_lab_s_own_is_refused_by_name() {
    let refusals = [
        named(&["TERMINATION_PROTECTED"], protect_from_termination),
        named(&["OPTED_OUT"], |it| tag_instance(it, "spot-optimizer:opt-out", "true")),
        named(&["MANAGED_ELSEWHERE", "Amazon RDS Custom"], |it| tag_instance(it, "AWSRDSCustom", "db")),
        named(&["KUBERNETES_NODE"], |it| tag_instance(it, "kubernetes.io/cluster/shop", "owned")),
        named(&["GROUP_MEMBER"], |it| tag_instance(it, "aws:autoscaling:groupName", "web")),
        named(&["PROD_ACCOUNT"], |it| {
            let row = json!({
                "account_id": {"S": LAB_ACCOUNT}, "environment_type": {"S": "PROD"}, "role_arn": {"S": LAB_ROLE},
            });
            put(it, ACCOUNTS, &row);
        }),
    ];
    each_changes_nothing(&Scene::of_instance(), refusals);
}

#[test]
fn an_input_or_a_setting_that_can_t_be_meant_is_refused_by_name() {
    let with = |field: &str, value: Value| Scene {
        input: [(field.to_owned(), value)].into(),
        other_groups: vec![GroupSpec { name: "api".to_owned(), ..GroupSpec::default() }],
        ..Scene::default()
    };
    changes_nothing(with("dry_runn", json!(true)), &["InvalidInput", "dry_runn"]);
    changes_nothing(with("asg_name", json!("nobody")), &["GroupNotFound", "nobody"]);
    changes_nothing(with("account_id", json!("999999999999")), &["InvalidInput", "account_id"]);
    let unknown = "i-0fffffffffffffff1";
    changes_nothing(with("replace", json!([unknown])), &["InvalidInput", unknown]);
    let of_another_group = first_member_of("api", &with("replace", json!([])));
    changes_nothing(with("replace", json!([of_another_group])), &["NOT_IN_GROUP", &of_another_group]);
    let settings = [("min_saving_percent".to_owned(), json!(500))].into();
    changes_nothing(Scene { settings, ..Scene::default() }, &["InvalidSettings", "min_saving_percent"]);
}

#[test]
fn a_dry_run_plans_and_changes_nothing_at_all() {
    for name in ["full-group", "node", "lab", "lab-image"] {
        let mut scene = scene(name);
        scene.input.insert("dry_run".to_owned(), json!(true));
        let ended = play_or_tell(&scene, Plan::none());
        let outcome = &ended.executions["by-hand"];
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome}");
        let changes = changes(&ended, |_| true);
        assert!(changes.is_empty(), "{outcome}, after {changes:?}");
    }
}
