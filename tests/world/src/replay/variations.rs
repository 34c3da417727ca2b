//! The words for what a scene has otherwise than one by its name: the numbers that random histories draw. True is 1.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::fleet::LifecycleHook;
use crate::scene::Scene;
use crate::scenes::named;

/// The scenes that random histories vary.
const VARIED: [&str; 3] = ["group", "node", "lab"];

/// A number of a scene.
struct Number {
    word: &'static str,
    get: fn(&Scene) -> Option<i64>,
    /// Returns `None` if the scene can't have it.
    set: fn(&mut Scene, i64) -> Option<()>,
}

/// A flag of AWS's habits.
macro_rules! flag {
    ($field:ident) => {
        Number {
            word: stringify!($field),
            get: |scene| Some(i64::from(scene.habits.$field)),
            set: |scene, to| {
                scene.habits.$field = to != 0;
                Some(())
            },
        }
    };
}

/// A time of AWS's habits, in seconds.
macro_rules! seconds {
    ($field:ident) => {
        Number {
            word: stringify!($field),
            get: |scene| Some(scene.habits.$field.as_secs()),
            set: |scene, to| {
                scene.habits.$field = SignedDuration::from_secs(to);
                Some(())
            },
        }
    };
}

const NUMBERS: [Number; 23] = [
    Number {
        word: "size",
        get: |scene| Some(scene.group.size.into()),
        set: |scene, to| {
            scene.group.size = to.try_into().ok()?;
            Some(())
        },
    },
    Number {
        word: "max",
        get: |scene| Some(scene.group.max.into()),
        set: |scene, to| {
            scene.group.max = to.try_into().ok()?;
            Some(())
        },
    },
    Number {
        word: "zones",
        get: |scene| scene.group.zones.try_into().ok(),
        set: |scene, to| {
            scene.group.zones = to.try_into().ok()?;
            Some(())
        },
    },
    Number {
        word: "has_target_group",
        get: |scene| Some(scene.group.has_target_group.into()),
        set: |scene, to| {
            scene.group.has_target_group = to != 0;
            Some(())
        },
    },
    Number {
        word: "heartbeat_seconds",
        get: |scene| Some(scene.group.hooks.first().map_or(0, |hook| hook.heartbeat_seconds.into())),
        set: |scene, to| {
            scene.group.hooks = LifecycleHook::with_heartbeat(to.try_into().ok()?).into_iter().collect();
            Some(())
        },
    },
    Number {
        word: "has_address",
        get: |scene| Some(scene.lab.as_ref()?.has_address.into()),
        set: |scene, to| {
            scene.lab.as_mut()?.has_address = to != 0;
            Some(())
        },
    },
    Number {
        word: "target_groups",
        get: |scene| Some(scene.lab.as_ref()?.target_groups.into()),
        set: |scene, to| {
            scene.lab.as_mut()?.target_groups = to.try_into().ok()?;
            Some(())
        },
    },
    Number {
        word: "capture_image",
        get: |scene| scene.input.get("capture_image").and_then(Value::as_bool).map(i64::from),
        set: |scene, to| {
            scene.input.insert("capture_image".to_owned(), json!(to != 0));
            Some(())
        },
    },
    flag!(client_token_takes_wildcards),
    flag!(detached_keeps_group_tag),
    flag!(dead_detaching_keeps_group_tag),
    flag!(max_covers_leaving),
    flag!(attach_refuses_too_many_tags),
    flag!(attach_announces_launch),
    flag!(refuses_to_terminate_interrupted),
    flag!(hooks_of_dead_are_completed),
    flag!(pending_image_names_source),
    flag!(pending_image_names_snapshots),
    flag!(pending_image_deregisters),
    seconds!(leaving_shows_after),
    seconds!(targets_known_after),
    seconds!(snapshot_in_use_after),
    seconds!(terminated_keeps_tags_for),
];

/// Returns the name of the scene that this one varies, and the words for what is otherwise.
pub(super) fn variation_of(scene: &Scene) -> Option<(&'static str, Vec<String>)> {
    VARIED.into_iter().find_map(|name| {
        let (mut varied, mut words) = (named(name)?, Vec::new());
        for number in &NUMBERS {
            let (before, to) = ((number.get)(&varied), (number.get)(scene));
            if let Some(to) = to.filter(|_| to != before) {
                (number.set)(&mut varied, to)?;
                words.push(format!("{}={to}", number.word));
            }
        }
        varied.wakes.clone_from(&scene.wakes);
        varied.machine_timeout = scene.machine_timeout;
        (format!("{varied:?}") == format!("{scene:?}")).then_some((name, words))
    })
}

/// Returns true for the word of a number.
pub(super) fn is_number(word: &str) -> bool {
    NUMBERS.iter().any(|number| number.word == word)
}

/// Varies a scene by what a word of the form KEY=VALUE says.
pub(super) fn vary(scene: &mut Scene, key: &str, value: &str) -> Option<()> {
    let number = NUMBERS.iter().find(|number| number.word == key)?;
    (number.set)(scene, value.parse().ok()?)
}
