//! The tags whose keys begin with `spot-optimizer:`: every key that has a meaning, and the error for one that resembles them. A
//! misspelt key is a wish of its owner, and must not count as absent. A key that resembles none is the owner's own affair.

use crate::settings::Settings;
use crate::spelling::is_alike;
use crate::tags::{CLUSTER_TAG, SWAP_TAG, Tags};

/// `true` enrols a group or a lab instance, `false` takes it out.
pub const ENABLED_TAG: &str = "spot-optimizer:enabled";
/// The times at which a swap may start. Without the tag, at any time.
pub const WINDOW_TAG: &str = "spot-optimizer:window";
/// `true` starts the twin of a lab instance from an image of its EBS volumes. Without the tag, the twin starts from the AMI.
pub const CAPTURE_IMAGE_TAG: &str = "spot-optimizer:capture-image";
/// Comma-separated instance types that a replacement may have beside the group's own.
pub const INSTANCE_TYPES_TAG: &str = "spot-optimizer:instance-types";
/// The number of On-Demand instances that the owner keeps.
pub const MIN_ON_DEMAND_TAG: &str = "spot-optimizer:min-on-demand";
/// Consent: the group's launching lifecycle hooks need not run for a replacement.
pub const IGNORE_LAUNCH_HOOKS_TAG: &str = "spot-optimizer:ignore-launch-hooks";
/// Seconds from InService until a replacement counts as ready, instead of the group's own warm-up.
pub const WARM_UP_TAG: &str = "spot-optimizer:warm-up-seconds";
/// The tag by which a replacement says that it is ready: `key` or `key=value`. `key=` means an empty value, which EC2
/// takes.
pub const READY_TAG: &str = "spot-optimizer:ready-tag";
/// The end of a group's last run, and what it did.
pub const LAST_RUN_TAG: &str = "spot-optimizer:last-run";
/// The first error of a group's last run; absent if it had none.
pub const LAST_ERROR_TAG: &str = "spot-optimizer:last-error";

/// Every key that has a meaning on a group or an instance. The opt-out tag is not among them: its key is a setting.
pub const KNOWN_KEYS: [&str; 12] = [
    ENABLED_TAG,
    WINDOW_TAG,
    MIN_ON_DEMAND_TAG,
    INSTANCE_TYPES_TAG,
    WARM_UP_TAG,
    READY_TAG,
    IGNORE_LAUNCH_HOOKS_TAG,
    CAPTURE_IMAGE_TAG,
    // The keys that only the stack writes.
    SWAP_TAG,
    CLUSTER_TAG,
    LAST_RUN_TAG,
    LAST_ERROR_TAG,
];

/// A tag that can't be read, so that it can't be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tag {tag:?} of the group: {problem}")]
pub struct BadTag {
    /// The tag's key.
    pub tag: String,
    /// The fault of its key or value, and what is expected.
    pub problem: String,
}

impl BadTag {
    /// Returns the error in words for a tag of an instance.
    #[must_use]
    pub fn of_instance(&self) -> String {
        format!("tag {:?} of the instance: {}", self.tag, self.problem)
    }
}

/// A key that is nearly one of those above.
struct MisspeltKey<'a> {
    key: &'a str,
    value: &'a str,
    nearest: &'a str,
}

impl MisspeltKey<'_> {
    fn bad(&self) -> BadTag {
        let problem = format!("the key is unknown: rename it to {:?}, or remove the tag", self.nearest);
        BadTag { tag: self.key.to_owned(), problem }
    }
}

/// Returns an error for each tag whose key is a misspelt one of ours. The settings name the opt-out tag, and the marks of owners
/// that may begin as ours, too.
pub fn misspelt_tags<'a>(tags: &'a Tags, settings: &'a Settings) -> impl Iterator<Item = BadTag> {
    misspelt_keys(tags, settings).map(|misspelt| misspelt.bad())
}

/// Returns the error for a tag that may be meant to opt out, under a misspelt key.
#[must_use]
pub fn like_opt_out(tags: &Tags, settings: &Settings) -> Option<BadTag> {
    let mut keys = misspelt_keys(tags, settings);
    keys.find(|key| key.nearest == settings.opt_out_tag && key.value != "false").map(|key| key.bad())
}

/// Returns the error for a tag that may be meant to take a group out of the loop, under a misspelt key.
#[must_use]
pub fn like_disabled(tags: &Tags, settings: &Settings) -> Option<BadTag> {
    let mut keys = misspelt_keys(tags, settings);
    keys.find(|key| key.nearest == ENABLED_TAG && key.value != "true").map(|key| key.bad())
}

fn misspelt_keys<'a>(tags: &'a Tags, settings: &'a Settings) -> impl Iterator<Item = MisspeltKey<'a>> {
    tags.iter().filter(|(key, value)| !is_known(key, value, settings)).filter_map(|(key, value)| {
        let nearest = nearest(name_in(key)?, settings)?;
        Some(MisspeltKey { key, value, nearest })
    })
}

/// Returns the part behind `spot-optimizer:`. The prefix may be misspelt, too: `Spot_Optimizer:`, `spot-optimiser:`,
/// `spot-optimizer/`.
fn name_in(key: &str) -> Option<&str> {
    let (prefix, name) = key.split_once([':', '/'])?;
    is_alike(prefix, "spot-optimizer").then_some(name)
}

fn is_known(key: &str, value: &str, settings: &Settings) -> bool {
    let alone = || Tags::from([(key.to_owned(), value.to_owned())]);
    let marks = || settings.owner_marks.iter().chain(&settings.group_marks).chain(&settings.storage_marks);
    KNOWN_KEYS.contains(&key) || key == settings.opt_out_tag || marks().any(|mark| mark.is_on(&alone()))
}

fn nearest<'a>(name: &str, settings: &'a Settings) -> Option<&'a str> {
    let is_near = |key: &str| is_alike(name, name_in(key).unwrap_or(key));
    let opt_out = settings.opt_out_tag.as_str();
    // An owner may know the default key, where the setting names another.
    if is_alike(name, "opt-out") || is_near(opt_out) {
        return Some(opt_out);
    }
    KNOWN_KEYS.into_iter().find(|key| is_near(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner_marks::OwnerMark;

    fn tags(key: &str, value: &str) -> Tags {
        Tags::from([(key.to_owned(), value.to_owned())])
    }

    fn found(key: &str, settings: &Settings) -> Option<BadTag> {
        misspelt_tags(&tags(key, "true"), settings).next()
    }

    #[test]
    fn every_key_of_owners_and_of_the_stack_is_known() {
        let settings = Settings::default();
        let others =
            ["team", "aws:autoscaling:groupName", "ManagedBy", "SpotOptimizer", "spot-optimizer", "a:b"];
        for key in KNOWN_KEYS.into_iter().chain(others).chain([settings.opt_out_tag.as_str()]) {
            assert_eq!(found(key, &settings), None, "{key}");
        }
    }

    #[test]
    fn a_misspelt_key_is_named_with_the_nearest_one() {
        for (key, nearest) in [
            ("spot-optimizer:capture_image", CAPTURE_IMAGE_TAG),
            ("spot-optimizer:min_on_demand", MIN_ON_DEMAND_TAG),
            ("spot-optimizer:opt_out", "spot-optimizer:opt-out"),
            ("spot-optimizer:OptOut", "spot-optimizer:opt-out"),
            ("spot-optimizer: opt-out", "spot-optimizer:opt-out"),
            ("spot-optimizer:Enabled", ENABLED_TAG),
            ("Spot_Optimizer:enabled", ENABLED_TAG),
            ("SpotOptimizer:Last_Run", LAST_RUN_TAG),
            ("spot-optimizer:enable", ENABLED_TAG),
            ("spot-optimiser:opt-out", "spot-optimizer:opt-out"),
            ("spot-optimizer/opt-out", "spot-optimizer:opt-out"),
            ("spot-optimizer:min-ondemand", MIN_ON_DEMAND_TAG),
            ("spot-optimizer:opt-uot", "spot-optimizer:opt-out"),
        ] {
            let bad = found(key, &Settings::default()).unwrap();
            assert_eq!(bad.tag, key);
            assert!(bad.to_string().contains(&format!("rename it to {nearest:?}")), "{bad}");
        }
        for key in
            ["spot-optimizer:", "spot-optimizer:min-spot", "spot-optimizer:run", "spot-optimizer:enabled-by"]
        {
            assert_eq!(found(key, &Settings::default()), None, "{key} resembles none");
        }
    }

    #[test]
    fn the_settings_say_which_other_keys_are_known() {
        let settings = Settings {
            opt_out_tag: "spot-optimizer:hands-off".to_owned(),
            owner_marks: vec![OwnerMark::parse("spot-optimizer:owner").unwrap()],
            ..Settings::default()
        };
        assert_eq!(found("spot-optimizer:hands-off", &settings), None);
        assert_eq!(found("spot-optimizer:owner", &settings), None);
        for key in ["spot-optimizer:opt-out", "spot-optimizer:hands_off"] {
            let bad = found(key, &settings).unwrap();
            assert!(bad.problem.contains("\"spot-optimizer:hands-off\""), "{bad}");
            assert_eq!(like_opt_out(&tags(key, "yes"), &settings).unwrap().tag, key);
        }
        let elsewhere = Settings { opt_out_tag: "team:Hands-Off".to_owned(), ..Settings::default() };
        assert!(like_opt_out(&tags("spot-optimizer:opt_out", ""), &elsewhere).is_some());
        assert_eq!(found("team:hands_off", &elsewhere), None, "it does not begin with ours");
    }

    #[test]
    fn a_key_that_may_be_meant_as_a_word_against_is_told_from_others() {
        let settings = Settings::default();
        let opts_out = |key, value| like_opt_out(&tags(key, value), &settings).is_some();
        assert!(opts_out("spot-optimizer:opt_out", "true") && opts_out("spot-optimizer:optout", ""));
        assert!(
            !opts_out("spot-optimizer:opt_out", "false") && !opts_out("spot-optimizer:min_on_demand", "2")
        );
        assert!(!opts_out("spot-optimizer:opt-out", "true"), "that is the tag itself");
        let is_out = |key, value| like_disabled(&tags(key, value), &settings).is_some();
        assert!(is_out("spot-optimizer:Enabled", "false") && is_out("spot-optimizer:ENABLED", "no"));
        assert!(!is_out("spot-optimizer:Enabled", "true") && !is_out("spot-optimizer:enabled", "false"));
    }
}
