//! The tags by which a customer marks what it owns, as the settings list them.

use std::fmt;

use crate::owners::{FLEET_TAG, MARKS, group_of, matching, parts};
use crate::tags::{MANAGED_BY, Tags};

/// A tag by which an owner marks its instances. `key` means that key with any value but an empty one, `key=value`
/// exactly that value. `prefix*` means every key that begins so, with any value but an empty one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OwnerMark {
    key: String,
    value: Option<String>,
}

impl OwnerMark {
    /// Parses `key`, `key=value` or `prefix*`.
    ///
    /// # Errors
    /// The text is no mark; the error says why. A mark that no tag of an instance can match is an error, too: its
    /// author believes that it protects something.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = parts(text);
        if key.is_empty() || key.chars().count() > 128 || key.trim() != key {
            return Err(format!("{text:?} is no owner mark: expected key, key=value or prefix*"));
        }
        if key == "*" {
            return Err(format!("{text:?} is no owner mark: it would authorise everything that has a tag"));
        }
        if let Some(why) = value.and_then(no_value) {
            return Err(format!("{text:?}: the value {why}"));
        }
        match unmatchable(key, value) {
            Some(why) => Err(format!("{text:?} can match nothing: {why}")),
            None => Ok(Self { key: key.to_owned(), value: value.map(str::to_owned) }),
        }
    }

    /// Returns the default marks, those of `owners`. They hold unless the settings list others.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        MARKS.iter().filter_map(|mark| Self::parse(mark.tag).ok()).collect()
    }

    /// Returns true if one of the tags bears the mark, with a value that is not empty. Our own mark is no owner's:
    /// a launch of ours has to be proven.
    #[must_use]
    pub fn is_on(&self, tags: &Tags) -> bool {
        matching(&self.key, self.value.as_deref(), tags)
            .any(|(key, value)| !value.is_empty() && (key.as_str(), value.as_str()) != MANAGED_BY)
    }

    /// Returns true if every instance with a tag of this key bears the mark.
    pub(crate) fn is_on_every(&self, key: &str) -> bool {
        self.value.is_none() && self.key.strip_suffix('*').map_or(self.key == key, |p| key.starts_with(p))
    }
}

/// The tags that the settings of an account and region trust.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// The tags that authorise an instance: the setting `owner_marks`.
    pub owner_marks: &'a [OwnerMark],
    /// The tags of which a member of an Auto Scaling group must bear one: the setting `group_marks`. If the
    /// setting is empty, every group authorises its members.
    pub group_marks: &'a [OwnerMark],
}

impl Trust<'_> {
    pub(crate) fn trusts_group_of(&self, tags: &Tags) -> bool {
        self.group_marks.is_empty() || self.group_marks.iter().any(|mark| mark.is_on(tags))
    }

    /// Returns the owner's mark on `tags`. Auto Scaling launches the members of a mixed-instances group through
    /// EC2 Fleet. If not every group is trusted, the fleet authorises no member, unless a mark names that very
    /// fleet.
    pub(crate) fn mark_of_owner(&self, tags: &Tags) -> Option<&OwnerMark> {
        let mut owners = tags.clone();
        if !self.group_marks.is_empty() && group_of(tags).is_some() {
            owners.remove(FLEET_TAG);
        }
        let is_on = |mark: &&OwnerMark| mark.is_on(&owners) || (mark.value.is_some() && mark.is_on(tags));
        self.owner_marks.iter().find(is_on)
    }
}

impl fmt::Display for OwnerMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// Returns the reason why a mark can't mean this value, in words. Lists are written `team=payments, keep`: white space
/// at an end of a value is a slip.
fn no_value(value: &str) -> Option<&'static str> {
    if value.is_empty() || value.chars().count() > 256 {
        return Some("is empty or too long: an empty value authorises nothing");
    }
    (value.trim() != value).then_some("begins or ends with white space: write key=value without it")
}

/// Returns the reason why no tag matches, in words.
fn unmatchable(key: &str, value: Option<&str>) -> Option<&'static str> {
    let (stem, is_prefix) = key.strip_suffix('*').map_or((key, false), |stem| (stem, true));
    if stem.contains('*') || value.is_some_and(|value| value.contains('*')) {
        return Some("an asterisk stands for the rest of a key, at its end only");
    }
    if is_prefix && value.is_some() {
        return Some("a prefix takes no value: name the whole key");
    }
    if key.to_ascii_lowercase().starts_with("aws:") && !key.starts_with("aws:") {
        return Some("AWS writes aws: in small letters, and lets nobody else write it");
    }
    if value.is_some_and(|value| (key, value) == MANAGED_BY) {
        return Some("it is our own mark, which counts where a launch of ours is proven");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_mark_is_refused() {
        for text in ["", "=x", "team=", " team", "team "] {
            assert!(OwnerMark::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(OwnerMark::parse("team=a=b").unwrap().value.as_deref(), Some("a=b"));
    }

    #[test]
    fn a_value_with_white_space_at_an_end_is_a_slip() {
        for text in ["team= payments", "team=payments ", "team=\tpayments", "team= "] {
            let error = OwnerMark::parse(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("white space"), "{error}");
        }
        let inside = OwnerMark::parse("CreatedBy=EC2 Image Builder").unwrap();
        assert_eq!(inside.value.as_deref(), Some("EC2 Image Builder"));
    }

    #[test]
    fn a_mark_that_no_tag_can_match_is_refused_by_name() {
        for (text, why) in [
            ("team/*=payments", "a prefix takes no value"),
            ("te*m", "at its end only"),
            ("*/cluster", "at its end only"),
            ("team**", "at its end only"),
            ("team=pay*", "at its end only"),
            ("AWS:autoscaling:groupName", "AWS writes aws: in small letters"),
            ("Aws:*", "AWS writes aws: in small letters"),
            ("ManagedBy=SpotOptimizer", "our own mark"),
        ] {
            let error = OwnerMark::parse(text).unwrap_err();
            assert!(
                error.contains(text) && error.contains("can match nothing") && error.contains(why),
                "{error}"
            );
        }
        for text in ["kubernetes.io/cluster/*", "team", "team=payments", "aws:pcs:*", "ManagedBy=terraform"] {
            assert!(OwnerMark::parse(text).is_ok(), "{text}");
        }
    }
}
