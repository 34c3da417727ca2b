//! Values of each setting in every kind of work: the least and the greatest, each of one that lists its values, and a sample of
//! a text. The list is that of the code: a new setting is played without a word here.

use serde_json::{Value, json};
use spot_domain::settings::{Setting, Settings};
use spot_world::acts::Act;
use spot_world::campaign::{is_full, sample, side_by_side, spread};
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::GroupSpec;
use spot_world::history::{Ended, play};
use spot_world::machine::Outcome;
use spot_world::scene::Scene;
use spot_world::wire::Service;

use super::none_is_broken;
use crate::holds::scene;

/// One in so many of the cases is in the default share. It has no factor in common with the number of scenes.
const SHARE: usize = 37;
/// The histories of a full campaign that have a fault, for each case.
const FAULTS: usize = 4;
const SEED: u64 = 1;
/// The scenes in which somebody, or a notice, starts the work.
const STARTED: [&str; 4] = ["full-group-of-two", "node", "lab-image", "notice-with-room"];

/// A value of each setting that takes a text of any kind.
const TEXTS: [(&str, &str); 6] = [
    ("opt_out_tag", "hands-off"),
    ("instance_types", "m6i.large, c5.large"),
    ("kubeconfig_secrets", "elsewhere=spot-optimizer/elsewhere"),
    ("owner_marks", "team"),
    ("group_marks", "team"),
    ("storage_marks", "keep"),
];

/// A value of a setting, in the row of the global scope.
struct Case {
    setting: &'static str,
    value: Value,
    work: &'static str,
    scene: Scene,
}

#[test]
fn each_value_that_a_setting_takes_keeps_the_promises_in_every_kind_of_work() {
    let cases = sample(SHARE, SEED, cases().into_iter());
    let played = side_by_side(&cases, Case::broken);
    let histories: usize = played.iter().map(|(histories, _)| histories).sum();
    let broken: Vec<String> = played.into_iter().flat_map(|(_, broken)| broken).collect();
    none_is_broken(&broken, histories);
}

#[test]
fn each_setting_is_played_with_both_ends_of_its_range_or_with_all_that_it_lists() {
    for setting in Settings::reference() {
        let (values, is_text) = (values(&setting), TEXTS.iter().any(|(name, _)| *name == setting.name));
        let is_both = values.len() == 2 && values[0] != values[1];
        assert!(is_text || is_both, "{} takes {}: {values:?}", setting.name, setting.values);
    }
}

fn cases() -> Vec<Case> {
    let works = works();
    let each = Settings::reference().into_iter().flat_map(|setting| {
        let values = values(&setting).into_iter();
        values.map(move |value| (setting.name, value))
    });
    let in_each_work = |(setting, value): (&'static str, Value)| {
        let case = |(work, scene): &(&'static str, Scene)| {
            let mut scene = scene.clone();
            scene.settings.insert(setting.to_owned(), value.clone());
            Case { setting, value: value.clone(), work, scene }
        };
        works.iter().map(case).collect::<Vec<_>>()
    };
    each.flat_map(in_each_work).collect()
}

/// Returns the scenes, each with its name.
fn works() -> Vec<(&'static str, Scene)> {
    let started = STARTED.map(|name| (name, scene(name)));
    started.into_iter().chain([("loop", interrupted_in_loop()), ("recommendation", at_risk())]).collect()
}

/// A tagged group that the loop converts, and one without the tag. EC2 interrupts a Spot member before the first sweep. A
/// setting may keep both from Spot.
fn interrupted_in_loop() -> Scene {
    let of_loop = scene("loop");
    let group = GroupSpec { size: 2, spot: 1, max: 3, ..of_loop.group.clone() };
    let acts = vec![(10, Act::MemberIsInterrupted(0, 1))];
    Scene { group, acts, once_on_spot: Vec::new(), may_stay: true, ..of_loop }
}

fn at_risk() -> Scene {
    let to_risk_manager = vec![vec![0, 1]];
    Scene { acts: vec![(10, Act::MemberIsAtRisk(0))], to_risk_manager, ..scene("notice-with-room") }
}

/// Returns the values of a setting that are played.
fn values(setting: &Setting) -> Vec<Value> {
    match setting.attribute {
        "N" => {
            let ends = setting.values.split(" to ").map(|end| end.parse::<u32>().map(Value::from));
            let ends: Result<Vec<Value>, _> = ends.collect();
            ends.unwrap_or_else(|error| panic!("{} takes {}: {error}", setting.name, setting.values))
        }
        "BOOL" => vec![json!(false), json!(true)],
        _ => listed(setting).unwrap_or_else(|| vec![text_of(setting)]),
    }
}

/// Returns the values of a setting whose reference lists them all: each word between backticks, with "or" between.
fn listed(setting: &Setting) -> Option<Vec<Value>> {
    let word = |text: &str| {
        let word = text.strip_prefix('`')?.strip_suffix('`')?;
        (!word.contains('`')).then(|| json!(word))
    };
    setting.values.split(" or ").map(word).collect()
}

fn text_of(setting: &Setting) -> Value {
    let known = TEXTS.iter().find(|(name, _)| *name == setting.name);
    known.map_or_else(
        || panic!("{} takes a text: it needs a value here", setting.name),
        |(_, text)| json!(text),
    )
}

impl Case {
    /// Plays the case without a fault, and with some in a full campaign. Returns the number of histories, and what is broken.
    fn broken(&self) -> (usize, Vec<String>) {
        let Self { setting, value, work, .. } = self;
        let told = |plan: &Plan, problem: &str| format!("{setting} = {value} in {work}, {plan:?}: {problem}");
        let none = Plan::none();
        let ended = match play(&self.scene, none.clone(), SEED) {
            Ok(ended) => ended,
            Err(broken) => return (1, vec![told(&none, &broken.to_string())]),
        };
        let problem = self.is_taken(&ended).err().map(|problem| told(&none, &problem));
        let plans = if is_full() { faults(&ended) } else { Vec::new() };
        let of_plan = |plan: &Plan| {
            let broken = play(&self.scene, plan.clone(), SEED).err()?;
            Some(told(plan, &broken.to_string()))
        };
        (1 + plans.len(), problem.into_iter().chain(plans.iter().filter_map(of_plan)).collect())
    }

    /// No execution refuses a value that the reference allows. Waits of less than 65 seconds for a step are for local AWS
    /// alone, as the reference says.
    fn is_taken(&self, ended: &Ended) -> Result<(), String> {
        let waits = ["launch_visible_after_seconds", "reconcile_after_seconds"];
        let is_short = self.value.as_u64().is_some_and(|seconds| seconds < 65);
        let is_of_local_aws = waits.contains(&self.setting) && is_short;
        let refused = ended.executions.iter().find(|(_, end)| {
            matches!(end, Outcome::Failed { error: Some(error), .. } if error == "InvalidSettings")
        });
        let is_by_hand = ended.executions.contains_key("by-hand");
        match refused {
            None if is_of_local_aws && is_by_hand => Err("it is not refused".to_owned()),
            Some((name, end)) if !is_of_local_aws => Err(format!("{name} ends: {end}")),
            _ => Ok(()),
        }
    }
}

/// Returns some pairs of a call of this history and a fault that concerns it, spread evenly.
fn faults(ended: &Ended) -> Vec<Plan> {
    let calls = ended.world.chronicle.calls.iter().enumerate();
    let pairs = calls.flat_map(|(number, call)| {
        let is_present =
            |fault: &Fault| !matches!(fault, Fault::Stale(_)) || call.service != Service::Kubernetes;
        let faults = Fault::ALL.into_iter().filter(|fault| fault.concerns(call.is_read));
        faults.filter(is_present).map(|fault| (number, fault)).collect::<Vec<_>>()
    });
    let pairs: Vec<(usize, Fault)> = pairs.collect();
    let sample = spread(&pairs, FAULTS, &mut fastrand::Rng::with_seed(SEED));
    sample.into_iter().map(|pair| Plan::At([pair].into())).collect()
}
