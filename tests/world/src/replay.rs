//! A history to play again: the words in which a failure prints it, and which `--example replay` takes.
//!
//! | word | what |
//! |---|---|
//! | `full-group` | the scene by its name: `group`, unless given |
//! | `size=3`, `max_covers_leaving=1` | after the scene: a number that random histories draw, and that the scene has otherwise |
//! | `7` | the seed: 1, unless given |
//! | `41=EffectLate(55)` | the call 41 suffers this fault |
//! | `41=MemberDies(0)` | this act takes place as the call 41 is sent |
//! | `41~Stale(20)` | a strike of a random plan |
//! | `stop=60`, `stop=60+100` | a person stops the executions in second 60, and redrives them 100 seconds later |
//! | `outage=41,Action,Throttled,300` | the action, or the service, of the call 41 is out for 300 seconds |
//! | `timeout=300` | the executions time out after 300 seconds |
//! | `copies=7,2000`, `sweeps=180013` | [`Wakes`] of the reconciler |

use std::collections::BTreeMap;

use crate::event_bridge::Wakes;
use crate::fault::{Extent, Fault, Outage, Plan, Stop, Strike};
use crate::scene::Scene;
use crate::scenes::{name_of, named};

mod variations;

use variations::{is_number, variation_of, vary};

const COMMAND: &str = "cargo run --locked -p spot-world --example replay --";

/// A history to play again.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The scene.
    pub scene: Scene,
    /// What goes wrong.
    pub plan: Plan,
    /// The seed.
    pub seed: u64,
}

/// A word that says nothing of a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: expected a scene, a seed, or CALL=FAULT such as 41=EffectLate(55)")]
pub struct UnknownWord(String);

/// Returns the command that plays a history again, if its scene has a name, or varies one as random histories do.
#[must_use]
pub fn command(scene: &Scene, plan: &Plan, seed: u64) -> Option<String> {
    let (name, varied) = name_of(scene).map(|name| (name, Vec::new())).or_else(|| variation_of(scene))?;
    let begin = vec![name.to_owned(), seed.to_string()];
    let words = [begin, varied, of_scene(scene), of_plan(plan)].concat();
    let quoted = words.iter().map(|word| {
        let is_plain = word.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_=,+".contains(sign));
        if is_plain { word.clone() } else { format!("'{word}'") }
    });
    Some(format!("{COMMAND} {}", quoted.collect::<Vec<_>>().join(" ")))
}

fn of_scene(scene: &Scene) -> Vec<String> {
    let list = |name: &str, times: &[u64]| {
        let times: Vec<String> = times.iter().map(u64::to_string).collect();
        (!times.is_empty()).then(|| format!("{name}={}", times.join(",")))
    };
    let timeout = scene.machine_timeout.map(|seconds| format!("timeout={seconds}"));
    let wakes = [list("copies", &scene.wakes.copies), list("sweeps", &scene.wakes.sweeps)];
    timeout.into_iter().chain(wakes.into_iter().flatten()).collect()
}

fn of_plan(plan: &Plan) -> Vec<String> {
    match plan {
        Plan::At(faults) => faults.iter().map(|(call, fault)| format!("{call}={fault:?}")).collect(),
        Plan::ActAt(call, act) => vec![format!("{call}={act:?}")],
        Plan::Stopped(Stop { at, redriven_after: None }) => vec![format!("stop={at}")],
        Plan::Stopped(Stop { at, redriven_after: Some(after) }) => vec![format!("stop={at}+{after}")],
        Plan::Outage(Outage { from, extent, fault, seconds }) => {
            vec![format!("outage={from},{extent:?},{fault:?},{seconds}")]
        }
        Plan::Random(strikes) => {
            let word = |(call, strike): (&usize, &Strike)| match strike {
                Strike::Fault(fault) => format!("{call}~{fault:?}"),
                Strike::Act(act) => format!("{call}~{act:?}"),
            };
            strikes.iter().map(word).collect()
        }
    }
}

/// Reads the words of a history.
///
/// # Errors
/// A word is none of them, or two of them exclude each other.
pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Replay, UnknownWord> {
    let mut read = Replay { scene: Scene::default(), plan: Plan::none(), seed: 1 };
    let (mut wakes, mut machine_timeout) = (Wakes::default(), None);
    for word in words {
        let understood = match word.split_once('=') {
            Some(("copies", times)) => numbers(times).map(|times| wakes.copies = times),
            Some(("sweeps", times)) => numbers(times).map(|times| wakes.sweeps = times),
            Some(("timeout", seconds)) => {
                numbers(seconds).map(|seconds| machine_timeout = seconds.first().copied())
            }
            Some((key, value)) if is_number(key) => vary(&mut read.scene, key, value),
            Some((key, value)) => with(&read.plan, key, value).map(|plan| read.plan = plan),
            None if word.contains('~') => with_strike(&read.plan, &word).map(|plan| read.plan = plan),
            None => match (word.parse::<u64>(), named(&word)) {
                (Ok(seed), _) => {
                    read.seed = seed;
                    Some(())
                }
                (_, scene) => scene.map(|scene| read.scene = scene),
            },
        };
        understood.ok_or(UnknownWord(word))?;
    }
    read.scene = Scene { wakes, machine_timeout, ..read.scene };
    Ok(read)
}

/// Returns the plan with what a word of the form KEY=VALUE says; `None` if both can't be.
fn with(plan: &Plan, key: &str, value: &str) -> Option<Plan> {
    let is_first = *plan == Plan::none();
    let call = key.parse::<usize>().ok();
    if let (Plan::At(faults), Some(call), Ok(fault)) = (plan, call, value.parse::<Fault>()) {
        return Some(Plan::At(faults.clone().into_iter().chain([(call, fault)]).collect()));
    }
    let alone = match (key, call) {
        ("stop", _) => Plan::Stopped(stop(value)?),
        ("outage", _) => Plan::Outage(outage(value)?),
        (_, Some(call)) => Plan::ActAt(call, value.parse().ok()?),
        _ => return None,
    };
    is_first.then_some(alone)
}

fn with_strike(plan: &Plan, word: &str) -> Option<Plan> {
    let (call, text) = word.split_once('~')?;
    let fault = text.parse().map(Strike::Fault).ok();
    let strike = (call.parse::<usize>().ok()?, fault.or_else(|| text.parse().map(Strike::Act).ok())?);
    let known = match plan {
        Plan::Random(strikes) => strikes.clone(),
        other => (*other == Plan::none()).then(BTreeMap::new)?,
    };
    Some(Plan::Random(known.into_iter().chain([strike]).collect()))
}

fn stop(text: &str) -> Option<Stop> {
    let (at, after) = match text.split_once('+') {
        Some((at, after)) => (at, Some(after.parse().ok()?)),
        None => (text, None),
    };
    Some(Stop { at: at.parse().ok()?, redriven_after: after })
}

fn outage(text: &str) -> Option<Outage> {
    let parts: [&str; 4] = text.split(',').collect::<Vec<_>>().try_into().ok()?;
    let [from, extent, fault, seconds] = parts;
    let extent = [Extent::Action, Extent::Service].into_iter().find(|it| format!("{it:?}") == extent)?;
    Some(Outage {
        from: from.parse().ok()?,
        extent,
        fault: fault.parse().ok()?,
        seconds: seconds.parse().ok()?,
    })
}

fn numbers(list: &str) -> Option<Vec<u64>> {
    list.split(',').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::acts::{Act, LabAct};
    use crate::fleet::InstanceSpec;

    /// Splits a command as a shell does: a word in quotes may have spaces.
    fn words(command: &str) -> Vec<String> {
        let (mut words, mut is_quoted) = (vec![String::new()], false);
        for sign in command.strip_prefix(COMMAND).unwrap().trim_start().chars() {
            match sign {
                '\'' => is_quoted = !is_quoted,
                ' ' if !is_quoted => words.push(String::new()),
                _ => words.last_mut().unwrap().push(sign),
            }
        }
        words
    }

    #[test]
    fn a_command_plays_the_history_that_it_was_printed_for() {
        let dies = Act::MemberDies(1);
        let tags = Act::OwnerOfInstance(LabAct::TagsOld("spot-optimizer:enabled", "false"));
        let outage = Outage { from: 41, extent: Extent::Service, fault: Fault::Throttled, seconds: 300 };
        let plans = [
            Plan::none(),
            Plan::At([(3, Fault::Twice), (41, Fault::EffectLate(55))].into()),
            Plan::ActAt(41, dies),
            Plan::ActAt(41, tags),
            Plan::Stopped(Stop { at: 60, redriven_after: None }),
            Plan::Stopped(Stop { at: 60, redriven_after: Some(100) }),
            Plan::Outage(outage),
            Plan::Random([(3, Strike::Fault(Fault::Stale(20))), (41, Strike::Act(dies))].into()),
            Plan::Random([(3, Strike::Act(tags)), (41, Strike::Act(Act::TagsAreForged))].into()),
        ];
        let wakes = Wakes { copies: vec![7, 2000], sweeps: vec![180_013] };
        let scene = Scene { wakes, machine_timeout: Some(300), ..named("full-group").unwrap() };
        for plan in plans {
            let read = parse(words(&command(&scene, &plan, 9).unwrap())).unwrap();
            assert_eq!((&read.plan, read.seed), (&plan, 9));
            assert_eq!(format!("{:?}", read.scene), format!("{scene:?}"));
        }
    }

    #[test]
    fn a_command_plays_a_varied_scene() {
        let mut lab = named("lab").unwrap();
        lab.lab = Some(InstanceSpec { target_groups: 2, ..InstanceSpec::default() });
        lab.input.insert("capture_image".to_owned(), json!(false));
        let mut group = named("group").unwrap();
        (group.group.size, group.group.max, group.group.zones, group.group.has_target_group) =
            (3, 5, 2, true);
        let mut node = named("node").unwrap();
        node.habits.attach_announces_launch = false;
        node.habits.leaving_shows_after = SignedDuration::from_secs(14);
        for scene in [lab, group, node] {
            let read = parse(words(&command(&scene, &Plan::none(), 9).unwrap())).unwrap();
            assert_eq!(format!("{:?}", read.scene), format!("{scene:?}"));
        }
    }

    #[test]
    fn a_scene_that_differs_otherwise_has_no_command() {
        let other = Scene { is_quiet: true, ..Scene::default() };
        assert_eq!(command(&other, &Plan::none(), 1), None);
    }

    #[test]
    fn a_shell_gets_the_word_of_a_fault_in_quotes() {
        let plan = Plan::At([(41, Fault::EffectLate(55)), (42, Fault::Twice)].into());
        let printed = command(&Scene::default(), &plan, 1);
        assert_eq!(printed, Some(format!("{COMMAND} group 1 '41=EffectLate(55)' 42=Twice")));
    }

    #[test]
    fn a_word_that_says_nothing_is_refused() {
        let wrong: [&[&str]; 7] = [
            &["group", "size=many"],
            &["group", "has_address=1"],
            &["nothing"],
            &["41=Nothing"],
            &["stop=60", "41=Twice"],
            &["outage=1,All,Twice,2"],
            &["x~Twice"],
        ];
        for words in wrong {
            assert!(parse(words.iter().map(|word| (*word).to_owned())).is_err(), "{words:?}");
        }
    }
}
