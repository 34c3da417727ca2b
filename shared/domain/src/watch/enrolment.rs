//! Enrolment: which groups and lab instances the loop keeps on Spot, as their owners say by tags.

use crate::enrolment::Enrolment;
use crate::swap::group_tags::{BadTag, GroupTags};
use crate::tags::Tags;
use crate::watch::window::Window;

/// `true` enrols a group or a lab instance, `false` takes it out.
pub const ENABLED_TAG: &str = "spot-optimizer:enabled";
/// The times at which a swap may start. Without the tag, at any time.
pub const WINDOW_TAG: &str = "spot-optimizer:window";

/// `true` starts the twin of a lab instance from an image of its EBS volumes. Without the tag, the twin starts from the AMI.
pub const CAPTURE_IMAGE_TAG: &str = "spot-optimizer:capture-image";

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
        Some(text) => Err(BadTag { tag, problem: format!("{text:?} is neither true nor false") }),
    }
}

/// Returns the terms of a group; `None` if it is not enrolled.
///
/// # Errors
/// A tag of an enrolled group can't be read. Nothing is started then.
pub fn terms(tags: &Tags, enrolment: Enrolment) -> Result<Option<Terms>, BadTag> {
    if !enabled(tags)?.unwrap_or(enrolment == Enrolment::OptOut) {
        return Ok(None);
    }
    GroupTags::parse(tags)?;
    Ok(Some(Terms { window: window(tags)? }))
}

/// Returns the terms of an instance of a LAB account; `None` if it is not enrolled. Only its own tag enrols an instance,
/// whatever the setting says of groups.
///
/// # Errors
/// A tag of an enrolled instance can't be read. Nothing is started then.
pub fn terms_of_instance(tags: &Tags) -> Result<Option<InstanceTerms>, BadTag> {
    if enabled(tags)? != Some(true) {
        return Ok(None);
    }
    let capture_image = yes_or_no(tags, CAPTURE_IMAGE_TAG)?.unwrap_or(false);
    Ok(Some(InstanceTerms { window: window(tags)?, capture_image }))
}

fn window(tags: &Tags) -> Result<Option<Window>, BadTag> {
    let window = tags.get(WINDOW_TAG).map(|text| text.parse());
    window.transpose().map_err(|problem| BadTag { tag: WINDOW_TAG, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags<const N: usize>(pairs: [(&str, &str); N]) -> Tags {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
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
            assert_eq!(terms(&tags, setting).unwrap().is_some(), is_enrolled, "{value:?} {setting:?}");
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
        ] {
            for setting in [Enrolment::OptIn, Enrolment::OptOut] {
                assert_eq!(terms(&tags, setting).unwrap_err().tag, tag);
            }
        }
    }

    #[test]
    fn an_instance_is_enrolled_by_its_own_tag_alone() {
        let enrolled = (ENABLED_TAG, "true");
        let is_enrolled = |tags: &Tags| terms_of_instance(tags).unwrap().is_some();
        assert!(
            is_enrolled(&tags([enrolled, ("spot-optimizer:min-on-demand", "two")])),
            "that is a group's tag"
        );
        assert!(
            !is_enrolled(&tags([])) && !is_enrolled(&tags([(ENABLED_TAG, "false"), (WINDOW_TAG, "never")]))
        );
        assert_eq!(terms_of_instance(&tags([(ENABLED_TAG, "yes")])).unwrap_err().tag, ENABLED_TAG);
        assert_eq!(terms_of_instance(&tags([enrolled, (WINDOW_TAG, "never")])).unwrap_err().tag, WINDOW_TAG);
        let open = terms_of_instance(&tags([enrolled, (WINDOW_TAG, "Mon UTC")])).unwrap().unwrap();
        assert!(open.window.is_some() && !open.capture_image);
        let of = |value| terms_of_instance(&tags([enrolled, (CAPTURE_IMAGE_TAG, value)]));
        assert!(of("true").unwrap().unwrap().capture_image && !of("false").unwrap().unwrap().capture_image);
        assert_eq!(
            of("").unwrap_err().tag,
            CAPTURE_IMAGE_TAG,
            "the data is not left behind by a typing error"
        );
    }

    #[test]
    fn a_group_that_is_not_enrolled_may_say_what_it_likes() {
        let left = tags([(ENABLED_TAG, "false"), (WINDOW_TAG, "nine to five")]);
        assert_eq!(terms(&left, Enrolment::OptOut), Ok(None));
        assert_eq!(terms(&tags([(WINDOW_TAG, "nine to five")]), Enrolment::OptIn), Ok(None));
    }
}
