//! Enrolment: which groups and lab instances the loop keeps on Spot, as their owners say by tags.

pub use crate::own_tags::{CAPTURE_IMAGE_TAG, ENABLED_TAG, WINDOW_TAG};

use crate::enrolment::Enrolment;
use crate::own_tags::misspelt_tags;
use crate::settings::Settings;
use crate::swap::group_tags::{BadTag, GroupTags};
use crate::tags::Tags;
use crate::watch::window::Window;

/// What the owner of an enrolled group or lab instance says of the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The times at which a swap may start; `None` for any time.
    pub window: Option<Window>,
}

/// What the owner of an enrolled lab instance says of the loop, and of the swaps that it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceTerms {
    /// The times at which a swap may start; `None` for any time.
    pub window: Option<Window>,
    /// The twin starts from an image of the instance's EBS volumes.
    pub capture_image: bool,
}

/// Returns the owner's word on the loop; `None` if there is none.
///
/// # Errors
/// The tag is neither `true` nor `false`.
pub fn enabled(tags: &Tags) -> Result<Option<bool>, BadTag> {
    yes_or_no(tags, ENABLED_TAG)
}

fn yes_or_no(tags: &Tags, tag: &'static str) -> Result<Option<bool>, BadTag> {
    match tags.get(tag).map(String::as_str) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(text) => {
            let problem = format!("{text:?} is neither true nor false");
            Err(BadTag { tag: tag.to_owned(), problem })
        }
    }
}

/// Returns the terms of a group; `None` if it is not enrolled.
///
/// # Errors
/// A tag of an enrolled group can't be read, or its key is misspelt. Nothing is started then.
pub fn terms(tags: &Tags, settings: &Settings) -> Result<Option<Terms>, BadTag> {
    if !enabled(tags)?.unwrap_or(settings.enrolment == Enrolment::OptOut) {
        return Ok(None);
    }
    GroupTags::of(tags, settings)?;
    Ok(Some(Terms { window: window(tags)? }))
}

/// Returns the terms of an instance of a LAB account; `None` if it is not enrolled. Only its own tag enrols an instance,
/// whatever the setting says of groups.
///
/// # Errors
/// A tag of an enrolled instance can't be read, or its key is misspelt. Nothing is started then.
pub fn terms_of_instance(tags: &Tags, settings: &Settings) -> Result<Option<InstanceTerms>, BadTag> {
    if enabled(tags)? != Some(true) {
        return Ok(None);
    }
    let capture_image = yes_or_no(tags, CAPTURE_IMAGE_TAG)?.unwrap_or(false);
    let terms = InstanceTerms { window: window(tags)?, capture_image };
    misspelt_tags(tags, settings).next().map_or(Ok(Some(terms)), Err)
}

fn window(tags: &Tags) -> Result<Option<Window>, BadTag> {
    let window = tags.get(WINDOW_TAG).map(|text| text.parse());
    window.transpose().map_err(|problem| BadTag { tag: WINDOW_TAG.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags<const N: usize>(pairs: [(&str, &str); N]) -> Tags {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn enrolling(enrolment: Enrolment) -> Settings {
        Settings { enrolment, ..Settings::default() }
    }

    #[test]
    fn a_tag_enrols_and_takes_out_whatever_the_setting() {
        for (value, setting, is_enrolled) in [
            (None, Enrolment::OptIn, false),
            (None, Enrolment::OptOut, true),
            (Some("true"), Enrolment::OptIn, true),
            (Some("true"), Enrolment::OptOut, true),
            (Some("false"), Enrolment::OptIn, false),
            (Some("false"), Enrolment::OptOut, false),
        ] {
            let tags = value.map(|value| tags([(ENABLED_TAG, value)])).unwrap_or_default();
            let is_told = terms(&tags, &enrolling(setting)).unwrap().is_some();
            assert_eq!(is_told, is_enrolled, "{value:?} {setting:?}");
        }
    }

    #[test]
    fn a_tag_that_cannot_be_read_is_named() {
        let enrolled = (ENABLED_TAG, "true");
        for (tags, tag) in [
            (tags([(ENABLED_TAG, "yes")]), ENABLED_TAG),
            (tags([(ENABLED_TAG, "True")]), ENABLED_TAG),
            (tags([(ENABLED_TAG, "")]), ENABLED_TAG),
            (tags([enrolled, (WINDOW_TAG, "nine to five")]), WINDOW_TAG),
            (tags([enrolled, (WINDOW_TAG, "")]), WINDOW_TAG),
            (tags([enrolled, ("spot-optimizer:min-on-demand", "two")]), "spot-optimizer:min-on-demand"),
            (tags([enrolled, ("spot-optimizer:opt_out", "true")]), "spot-optimizer:opt_out"),
            (tags([enrolled, ("spot-optimizer:Enabled", "false")]), "spot-optimizer:Enabled"),
        ] {
            for setting in [Enrolment::OptIn, Enrolment::OptOut] {
                assert_eq!(terms(&tags, &enrolling(setting)).unwrap_err().tag, tag);
            }
        }
    }

    #[test]
    fn an_instance_is_enrolled_by_its_own_tag_alone() {
        let enrolled = (ENABLED_TAG, "true");
        let told = |tags: &Tags| terms_of_instance(tags, &Settings::default());
        let is_enrolled = |tags: &Tags| told(tags).unwrap().is_some();
        assert!(
            is_enrolled(&tags([enrolled, ("spot-optimizer:min-on-demand", "two")])),
            "that is a group's tag"
        );
        assert!(
            !is_enrolled(&tags([])) && !is_enrolled(&tags([(ENABLED_TAG, "false"), (WINDOW_TAG, "never")]))
        );
        assert_eq!(told(&tags([(ENABLED_TAG, "yes")])).unwrap_err().tag, ENABLED_TAG);
        assert_eq!(told(&tags([enrolled, (WINDOW_TAG, "never")])).unwrap_err().tag, WINDOW_TAG);
        let open = told(&tags([enrolled, (WINDOW_TAG, "Mon UTC")])).unwrap().unwrap();
        assert!(open.window.is_some() && !open.capture_image);
        let of = |value| told(&tags([enrolled, (CAPTURE_IMAGE_TAG, value)]));
        assert!(of("true").unwrap().unwrap().capture_image && !of("false").unwrap().unwrap().capture_image);
        assert_eq!(
            of("").unwrap_err().tag,
            CAPTURE_IMAGE_TAG,
            "the data is not left behind by a typing error"
        );
        let misspelt = "spot-optimizer:capture_image";
        assert_eq!(told(&tags([enrolled, (misspelt, "true")])).unwrap_err().tag, misspelt, "nor by another");
    }

    #[test]
    fn a_group_that_is_not_enrolled_may_say_what_it_likes() {
        let left = tags([(ENABLED_TAG, "false"), (WINDOW_TAG, "nine to five"), ("spot-optimizer:x", "y")]);
        assert_eq!(terms(&left, &enrolling(Enrolment::OptOut)), Ok(None));
        let left = tags([(WINDOW_TAG, "nine to five")]);
        assert_eq!(terms(&left, &enrolling(Enrolment::OptIn)), Ok(None));
    }

    #[test]
    fn where_every_group_is_enrolled_a_misspelt_word_against_that_is_named() {
        let left = tags([("spot-optimizer:Enabled", "false")]);
        let bad = terms(&left, &enrolling(Enrolment::OptOut)).unwrap_err();
        assert_eq!(bad.tag, "spot-optimizer:Enabled");
        assert!(bad.problem.contains(ENABLED_TAG), "{bad}");
    }
}
