//! Marks and tags: the settings `owner_marks`, `group_marks` and `storage_marks`, the tags of an owner on a group.
//!
//! The parsers promise: no panic. A mark reads back as it was printed. A mark is on the tags that the documentation
//! says (docs/reference/settings.md), and on no others. An error names the mark or the tag. No tag of ours is passed over
//! because its key is misspelt.

use std::collections::BTreeMap;

use spot_domain::audit::authorization::OwnerMark;
use spot_domain::own_tags::{KNOWN_KEYS, like_opt_out, misspelt_tags};
use spot_domain::owners;
use spot_domain::settings::{Settings, Value};
use spot_domain::swap::group_tags::GroupTags;
use spot_domain::tags::Tags;
use spot_fuzz::Target;

use crate::promise;

#[test]
fn marks() {
    let words = &[
        "kubernetes.io/",
        "aws:batch:",
        "ManagedBy=SpotOptimizer",
        "ManagedBy",
        "SpotOptimizer",
        "Aws:",
        "AWS:x",
        "spot-optimizer:",
        "opt_out",
        "Enabled",
    ];
    Target { name: "marks", samples: &[], words, cases: 4_000 }.fuzz(check);
}

/// A sample: a list of marks, and the tags that it is held against.
fn check(bytes: &[u8]) -> Result<(), String> {
    let Ok(sample) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return list(&String::from_utf8_lossy(bytes), &Tags::new());
    };
    let tags: Tags = match sample.get("tags").and_then(serde_json::Value::as_object) {
        Some(tags) => tags.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
        None => Tags::new(),
    };
    built_in(&tags)?;
    wishes(&tags)?;
    list(sample.get("marks").and_then(serde_json::Value::as_str).unwrap_or_default(), &tags)
}

fn list(marks: &str, tags: &Tags) -> Result<(), String> {
    for entry in marks.split(',').map(str::trim).chain([marks]) {
        one(entry, tags)?;
    }
    for field in
        ["owner_marks", "group_marks", "storage_marks", "kubeconfig_secrets", "instance_types", "opt_out_tag"]
    {
        let overrides = BTreeMap::from([(field.to_owned(), Value::Text(marks.to_owned()))]);
        match Settings::default().with("global", &overrides) {
            Ok(settings) => {
                let told = tags.get(&settings.opt_out_tag).is_some_and(|value| value != "false");
                promise(settings.opts_out(tags) == told, || {
                    format!("{tags:?} with {}", settings.opt_out_tag)
                })?;
                let written = serde_json::to_value(&settings).unwrap();
                let read: Settings = serde_json::from_value(written).map_err(|error| error.to_string())?;
                promise(read == settings, || format!("{field}: the settings read back otherwise"))?;
            }
            Err(error) => {
                promise(error.field == field && !error.problem.is_empty(), || format!("{error:?}"))?;
            }
        }
    }
    Ok(())
}

fn one(text: &str, tags: &Tags) -> Result<(), String> {
    let Ok(mark) = OwnerMark::parse(text) else { return Ok(()) };
    let printed = mark.to_string();
    let again = OwnerMark::parse(&printed);
    promise(again.as_ref() == Ok(&mark), || format!("{mark:?} reads back as {again:?}"))?;
    let documented = tags.iter().any(|(key, value)| means(text, key, value));
    promise(mark.is_on(tags) == documented, || format!("{text:?} on {tags:?}: {}", mark.is_on(tags)))?;
    // A swap leaves alone what bears a mark, whatever its value: the same tags, and those with an empty value.
    let found = owners::find(text, tags).is_some();
    promise(found || !documented, || format!("{text:?} authorises {tags:?} and keeps no swap away"))
}

/// Says if a mark is on a tag, as the documentation has it.
fn means(mark: &str, key: &str, value: &str) -> bool {
    if value.is_empty() || (key, value) == ("ManagedBy", "SpotOptimizer") {
        return false;
    }
    match (mark.split_once('='), mark.strip_suffix('*')) {
        (Some((wanted, its)), _) => key == wanted && value == its,
        (None, Some(prefix)) => key.starts_with(prefix),
        (None, None) => key == mark,
    }
}

/// The list of `owners` says the same by hand and by its finder.
fn built_in(tags: &Tags) -> Result<(), String> {
    let is_named = |mark: &owners::Mark| {
        tags.iter().any(|(key, value)| match (mark.tag.split_once('='), mark.tag.strip_suffix('*')) {
            (Some((wanted, its)), _) => key == wanted && value == its,
            (None, Some(prefix)) => key.starts_with(prefix),
            (None, None) => key == mark.tag,
        })
    };
    let named = owners::MARKS.iter().find(|mark| is_named(mark));
    let marked = owners::marked(tags);
    promise(marked.as_ref().map(|found| found.owner) == named.map(|mark| mark.owner), || {
        format!("{tags:?}: {marked:?} instead of {named:?}")
    })?;
    let detail = marked.map(|found| (found.detail().contains(&found.key), tags.contains_key(&found.key)));
    promise(detail.is_none_or(|told| told == (true, true)), || "the sentence names no tag".to_owned())
}

fn wishes(tags: &Tags) -> Result<(), String> {
    let settings = Settings::default();
    let is_known = |key: &str| KNOWN_KEYS.contains(&key) || key == settings.opt_out_tag;
    let misspelt = |key: &&String| {
        let name = key.strip_prefix("spot-optimizer:");
        name.is_some_and(|name| ["opt_out", "Enabled"].contains(&name))
    };
    let named: Vec<_> = misspelt_tags(tags, &settings).collect();
    promise(named.len() >= tags.keys().filter(misspelt).count(), || format!("{tags:?}: {named:?}"))?;
    promise(named.iter().all(|bad| !is_known(&bad.tag)), || format!("{named:?}"))?;
    let meant = like_opt_out(tags, &settings);
    promise(meant.is_none_or(|bad| named.contains(&bad)), || format!("{tags:?}: {named:?}"))?;
    match GroupTags::of(tags, &settings) {
        Ok(_) => promise(named.is_empty(), || format!("{named:?} are passed over")),
        // The error quotes the key.
        Err(bad) => promise(
            tags.contains_key(&bad.tag) && bad.to_string().contains(&format!("{:?}", bad.tag)),
            || format!("{bad:?}"),
        ),
    }
}
