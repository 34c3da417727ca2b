//! The role agrees with the code: an instance that is authorised by default can't be terminated.

#![allow(clippy::unwrap_used)]

use spot_domain::owners::MARKS;
use spot_domain::tags::{GROUP_NAME_TAG, NODE_GROUP_TAG};

fn template() -> String {
    std::fs::read_to_string(format!("{}/../../template.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// No condition of IAM matches the beginning of a tag's key.
#[test]
fn every_default_mark_with_a_whole_key_is_denied_by_the_role() {
    let template = template();
    let whole = MARKS.iter().map(|mark| mark.tag).filter(|tag| !tag.ends_with('*'));
    let marks = whole.chain([GROUP_NAME_TAG, NODE_GROUP_TAG, "ManagedBy=SpotOptimizer"]);
    for mark in marks {
        assert!(is_denied(&template, mark), "no Deny for {mark}");
    }
}

fn is_denied(template: &str, mark: &str) -> bool {
    let Some((key, value)) = mark.split_once('=') else {
        return template.contains(&format!("StringLike: {{'aws:ResourceTag/{mark}': '?*'}}"));
    };
    let condition = format!("StringEquals: {{'aws:ResourceTag/{key}': ");
    let mut values =
        template.lines().filter_map(|line| line.split_once(&condition)).map(|(_, values)| values);
    values.any(|values| values.trim_end_matches('}').trim_matches(['[', ']']).split(", ").any(|v| v == value))
}
