//! The wishes of a group's owner, as tags on the group. All of them are read before anything is changed: no
//! swap is better than one against its owner's wish.

pub use crate::own_tags::{
    BadTag, IGNORE_LAUNCH_HOOKS_TAG, INSTANCE_TYPES_TAG, MIN_ON_DEMAND_TAG, READY_TAG, WARM_UP_TAG,
};

use crate::ids::InstanceType;
use crate::own_tags::misspelt_tags;
use crate::settings::{Settings, parse_instance_types};
use crate::swap::group::Group;
use crate::tags::Tags;

const MAX_WARM_UP_SECONDS: u32 = 7_200;

/// The tag that the owner's software puts on an instance that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyTag {
    key: String,
    value: Option<String>,
}

impl ReadyTag {
    /// Returns the tag's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns true if the instance with these tags says that it is ready.
    #[must_use]
    pub fn is_on(&self, tags: &Tags) -> bool {
        tags.get(&self.key).is_some_and(|found| self.value.as_ref().is_none_or(|value| found == value))
    }
}

impl std::fmt::Display for ReadyTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// The owner's wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupTags {
    /// [`INSTANCE_TYPES_TAG`].
    pub instance_types: Option<Vec<InstanceType>>,
    /// [`MIN_ON_DEMAND_TAG`].
    pub min_on_demand: Option<u32>,
    /// [`IGNORE_LAUNCH_HOOKS_TAG`].
    pub ignores_launch_hooks: bool,
    /// [`WARM_UP_TAG`].
    pub warm_up_seconds: Option<u32>,
    /// [`READY_TAG`].
    pub ready_tag: Option<ReadyTag>,
}

impl GroupTags {
    /// Reads the tags of a group that is about to be swapped.
    ///
    /// # Errors
    /// The first tag whose value can't be read, or whose key is misspelt.
    pub fn of(tags: &Tags, settings: &Settings) -> Result<Self, BadTag> {
        let read = Self::parse(tags)?;
        misspelt_tags(tags, settings).next().map_or(Ok(read), Err)
    }

    /// Reads those tags of a group that have a meaning.
    ///
    /// # Errors
    /// The first tag whose value can't be read.
    pub fn parse(tags: &Tags) -> Result<Self, BadTag> {
        Ok(Self {
            instance_types: read(tags, INSTANCE_TYPES_TAG, parse_instance_types)?,
            min_on_demand: read(tags, MIN_ON_DEMAND_TAG, whole_number)?,
            ignores_launch_hooks: read(tags, IGNORE_LAUNCH_HOOKS_TAG, consent)?.unwrap_or(false),
            warm_up_seconds: read(tags, WARM_UP_TAG, warm_up)?,
            ready_tag: read(tags, READY_TAG, ready_tag)?,
        })
    }
}

/// What a member that has just come must show, beside being InService and healthy, before it counts as serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The tag of the owner's software.
    Tag(ReadyTag),
    /// So many seconds of warm-up.
    WarmUp(u32),
}

impl Readiness {
    /// Returns what the owner of the group asks for: the ready tag, or else the warm-up. A ready tag that the group itself
    /// puts on its members says nothing. Tags that can't be read ask for nothing.
    #[must_use]
    pub fn asked_by(group: &Group) -> Self {
        let tags = GroupTags::parse(&group.tags).unwrap_or_default();
        match tags.ready_tag.filter(|ready| !ready.is_on(&group.propagated_tags)) {
            Some(ready) => Self::Tag(ready),
            None => Self::WarmUp(tags.warm_up_seconds.unwrap_or(group.warm_up_seconds)),
        }
    }
}

fn read<T>(
    tags: &Tags,
    tag: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, BadTag> {
    tags.get(tag)
        .map(|text| parse(text).map_err(|problem| BadTag { tag: tag.to_owned(), problem }))
        .transpose()
}

fn whole_number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number"))
}

fn consent(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
}

fn warm_up(text: &str) -> Result<u32, String> {
    whole_number(text)
        .ok()
        .filter(|seconds| *seconds <= MAX_WARM_UP_SECONDS)
        .ok_or_else(|| format!("{text:?} is no number of seconds from 0 to {MAX_WARM_UP_SECONDS}"))
}

fn ready_tag(text: &str) -> Result<ReadyTag, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() || key.trim() != key || key.chars().count() > 128 || key.starts_with("aws:") {
        return Err(format!("{text:?} is no tag: expected key or key=value"));
    }
    if value.as_deref().is_some_and(|value| value.trim() != value) {
        return Err(format!(
            "the value of {text:?} begins or ends with white space: write key=value without it"
        ));
    }
    Ok(ReadyTag { key: key.to_owned(), value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::group::tests::group_of;
    use proptest::prelude::*;

    fn parsed(tag: &str, value: &str) -> Result<GroupTags, BadTag> {
        GroupTags::parse(&Tags::from([(tag.to_owned(), value.to_owned())]))
    }

    #[test]
    fn nothing_said_is_nothing_wished() {
        assert_eq!(parsed("team", "web").unwrap(), GroupTags::default());
    }

    #[test]
    fn a_key_that_is_unknown_is_no_absent_wish() {
        let read = |key: &str| {
            let tags = Tags::from([
                (key.to_owned(), "2".to_owned()),
                (MIN_ON_DEMAND_TAG.to_owned(), "1".to_owned()),
            ]);
            GroupTags::of(&tags, &Settings::default())
        };
        assert_eq!(read("team").unwrap().min_on_demand, Some(1));
        assert_eq!(read("spot-optimizer:last-run").unwrap().min_on_demand, Some(1), "the stack writes it");
        let bad = read("spot-optimizer:min_on_demand").unwrap_err();
        assert_eq!(
            bad.to_string(),
            "tag \"spot-optimizer:min_on_demand\" of the group: the key is unknown: rename it to \
             \"spot-optimizer:min-on-demand\", or remove the tag"
        );
        assert!(
            bad.of_instance().starts_with("tag \"spot-optimizer:min_on_demand\" of the instance: the key")
        );
    }

    #[test]
    fn every_wish_is_read() {
        assert_eq!(parsed(MIN_ON_DEMAND_TAG, "2").unwrap().min_on_demand, Some(2));
        assert!(parsed(IGNORE_LAUNCH_HOOKS_TAG, "true").unwrap().ignores_launch_hooks);
        assert!(!parsed(IGNORE_LAUNCH_HOOKS_TAG, "false").unwrap().ignores_launch_hooks);
        assert_eq!(parsed(WARM_UP_TAG, "0").unwrap().warm_up_seconds, Some(0));
        assert_eq!(
            parsed(INSTANCE_TYPES_TAG, "m5.large, c5.large").unwrap().instance_types.unwrap().len(),
            2
        );
        let ready = parsed(READY_TAG, "app:state=ready").unwrap().ready_tag.unwrap();
        let tags = |key: &str, value: &str| Tags::from([(key.to_owned(), value.to_owned())]);
        assert!(ready.is_on(&tags("app:state", "ready")) && !ready.is_on(&tags("app:state", "booting")));
        let any = parsed(READY_TAG, "ready").unwrap().ready_tag.unwrap();
        assert!(any.is_on(&tags("ready", "")) && !any.is_on(&Tags::new()));
        let empty = parsed(READY_TAG, "ready=").unwrap().ready_tag.unwrap();
        assert!(empty.is_on(&tags("ready", "")) && !empty.is_on(&tags("ready", "yes")));
    }

    #[test]
    fn a_member_that_came_later_shows_the_ready_tag_or_else_warms_up() {
        let mut group = Group { warm_up_seconds: 30, ..group_of(2) };
        assert_eq!(Readiness::asked_by(&group), Readiness::WarmUp(30));
        group.tags.insert(WARM_UP_TAG.to_owned(), "60".to_owned());
        assert_eq!(Readiness::asked_by(&group), Readiness::WarmUp(60));
        group.tags.insert(READY_TAG.to_owned(), "app=ready".to_owned());
        let asked = Readiness::asked_by(&group);
        assert!(matches!(&asked, Readiness::Tag(ready) if ready.to_string() == "app=ready"), "{asked:?}");
        group.propagated_tags.insert("app".to_owned(), "booting".to_owned());
        assert_eq!(Readiness::asked_by(&group), asked, "the software changes it");
        group.propagated_tags.insert("app".to_owned(), "ready".to_owned());
        assert_eq!(Readiness::asked_by(&group), Readiness::WarmUp(60), "each member has it from the start");
        group.tags.insert(READY_TAG.to_owned(), "=".to_owned());
        assert_eq!(Readiness::asked_by(&group), Readiness::WarmUp(30), "they can't be read");
    }

    #[test]
    fn a_wish_that_cannot_be_read_names_its_tag_and_the_way_out() {
        for (tag, value, expected) in [
            (MIN_ON_DEMAND_TAG, "two", "\"two\" is not a whole number"),
            (IGNORE_LAUNCH_HOOKS_TAG, "yes", "\"yes\" is neither true nor false"),
            (IGNORE_LAUNCH_HOOKS_TAG, "", "neither true nor false"),
            (WARM_UP_TAG, "5m", "seconds from 0 to 7200"),
            (WARM_UP_TAG, "7201", "seconds from 0 to 7200"),
            (WARM_UP_TAG, "-1", "seconds from 0 to 7200"),
            (READY_TAG, "", "expected key or key=value"),
            (READY_TAG, "=true", "expected key or key=value"),
            (READY_TAG, "aws:x", "expected key or key=value"),
            (READY_TAG, "app= ready", "white space"),
            (READY_TAG, "app=ready ", "white space"),
            (READY_TAG, "app= ", "white space"),
            (INSTANCE_TYPES_TAG, "big", "\"big\""),
        ] {
            let error = parsed(tag, value).unwrap_err();
            assert!(error.to_string().contains(tag) && error.problem.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(tag in prop::sample::select(vec![
            INSTANCE_TYPES_TAG, MIN_ON_DEMAND_TAG, IGNORE_LAUNCH_HOOKS_TAG, WARM_UP_TAG, READY_TAG,
        ]), value in ".{0,40}") {
            if let Err(error) = parsed(tag, &value) {
                prop_assert_eq!(error.tag, tag);
            }
        }
    }
}
