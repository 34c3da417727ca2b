//! The role says what the code says: whatever authorises by default can't be terminated.

#![allow(clippy::unwrap_used)]

use spot_domain::authorization::{DEFAULT_OWNER_MARKS, NODE_GROUP_TAG};
use spot_domain::tags::GROUP_NAME_TAG;

fn template() -> String {
    std::fs::read_to_string(format!("{}/../../template.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn every_default_mark_is_denied_by_the_role() {
    let template = template();
    for mark in DEFAULT_OWNER_MARKS.iter().chain(&[GROUP_NAME_TAG, NODE_GROUP_TAG, "ManagedBy=SpotOptimizer"])
    {
        let condition = match mark.split_once('=') {
            Some((key, value)) => format!("StringEquals: {{'aws:ResourceTag/{key}': {value}}}"),
            None => format!("StringLike: {{'aws:ResourceTag/{mark}': '?*'}}"),
        };
        assert!(template.contains(&condition), "no Deny for {mark}: {condition}");
    }
}
