//! The README lists what a customer may tune.

#![allow(clippy::unwrap_used)]

use spot_domain::settings::Settings;

#[test]
fn the_readme_lists_every_setting() {
    let readme = include_str!("../../../README.md");
    let settings = serde_json::to_value(Settings::default()).unwrap();
    for field in settings.as_object().unwrap().keys() {
        assert!(readme.contains(&format!("`{field}`")), "README.md does not explain {field}");
    }
}
