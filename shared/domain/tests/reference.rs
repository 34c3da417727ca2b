//! docs/reference/settings.md lists what a customer may tune, with its default.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::Value;
use spot_domain::settings::Settings;

/// Returns field → default, as the page says. A row may name several fields.
fn documented() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for row in include_str!("../../../docs/reference/settings.md").lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, names, default, ..] = cells[..] else { continue };
        for name in names.split(',').map(str::trim).filter(|name| name.starts_with('`')) {
            found.insert(name.trim_matches('`').to_owned(), default.trim_matches('`').to_owned());
        }
    }
    found
}

#[test]
fn the_reference_lists_every_setting_with_its_default_and_no_other() {
    let settings = serde_json::to_value(Settings::default()).unwrap();
    let mut documented = documented();
    for (field, default) in settings.as_object().unwrap() {
        let said =
            documented.remove(field).unwrap_or_else(|| panic!("docs/reference/settings.md lacks {field}"));
        let is_said = match default {
            Value::String(text) => *text == said,
            Value::Number(number) => number.to_string() == said,
            Value::Bool(flag) => flag.to_string() == said,
            // What adds to defaults of its own.
            _ => said.is_empty() || said.starts_with("see "),
        };
        assert!(is_said, "docs/reference/settings.md says {said:?} of {field}, the code {default}");
    }
    assert!(documented.is_empty(), "docs/reference/settings.md has rows without a setting: {documented:?}");
}
