//! Parameters of calls: lists of structures, required values, filters with wildcards, pages.

use std::collections::BTreeMap;

use crate::fleet::xml::ApiError;
use crate::wire::{ApiCall, CallBody};

/// Returns a parameter that the call must have.
pub(super) fn required<'a>(call: &'a ApiCall, name: &str) -> Result<&'a str, ApiError> {
    call.parameter(name)
        .ok_or_else(|| ApiError::new("MissingParameter", format!("The request must contain {name}")))
}

/// Returns a whole number, if the call has the parameter.
pub(super) fn number(call: &ApiCall, name: &str) -> Result<Option<u32>, ApiError> {
    let parse = |text: &str| {
        text.parse().map_err(|_| ApiError::validation(format!("Value {text:?} at {name} is no whole number")))
    };
    call.parameter(name).map(parse).transpose()
}

/// Returns true if the parameter says so; an absent one says no.
pub(super) fn is_true(call: &ApiCall, name: &str) -> bool {
    call.parameter(name) == Some("true")
}

/// Returns the prefixes `name.1`, `name.2` … (or `name.member.1` …) of a list of structures.
pub(super) fn structures(call: &ApiCall, name: &str) -> Vec<String> {
    let CallBody::Query(parameters) = &call.body else { return Vec::new() };
    let counted = |name: &str| -> Vec<String> {
        let has = |prefix: &String| {
            let inner = format!("{prefix}.");
            parameters.range(inner.clone()..).next().is_some_and(|(key, _)| key.starts_with(&inner))
        };
        (1..=parameters.len()).map(|n| format!("{name}.{n}")).take_while(has).collect()
    };
    let plain = counted(name);
    if plain.is_empty() { counted(&format!("{name}.member")) } else { plain }
}

/// Returns the pairs of a list of tags.
pub(super) fn tags(call: &ApiCall, name: &str) -> BTreeMap<String, String> {
    let tag = |prefix: String| {
        let key = call.parameter(&format!("{prefix}.Key"))?.to_owned();
        Some((key, call.parameter(&format!("{prefix}.Value")).unwrap_or_default().to_owned()))
    };
    structures(call, name).into_iter().filter_map(tag).collect()
}

/// Refuses a changing call with a parameter that is not among those that the world plays.
pub(super) fn plays_only(call: &ApiCall, played: &[&str]) -> Result<(), ApiError> {
    let CallBody::Query(parameters) = &call.body else { return Ok(()) };
    let names = parameters.keys().map(|key| key.split('.').next().unwrap_or_default());
    let unknown = names.into_iter().find(|name| *name != "Version" && !played.contains(name));
    unknown.map_or(Ok(()), |name| Err(ApiError::not_played(&format!("parameter {name} of {}", call.action))))
}

/// Returns true if the text matches the value of a filter: `*` stands for any run of characters, `?` for one.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html>
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = rest.as_str();
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }
        Some(first) => {
            let mut text = text.chars();
            let is_match = text.next().is_some_and(|c| first == '?' || first == c);
            is_match && matches(rest.as_str(), text.as_str())
        }
    }
}

/// A page of a description, with the token of the next one.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
}

const TOKEN: &str = "after ";

/// Cuts a page out of the items, which are in the order of their keys. A token stands for the last key that was shown, so
/// that nothing is skipped if items go meanwhile.
pub(super) fn page<T>(
    items: impl IntoIterator<Item = (String, T)>,
    token: Option<&str>,
    most: Option<usize>,
) -> Result<Page<T>, ApiError> {
    let unknown = |token: &str| ApiError::new("InvalidNextToken", format!("The token {token:?} is invalid."));
    let after = token.map(|token| token.strip_prefix(TOKEN).ok_or_else(|| unknown(token))).transpose()?;
    let mut left = items.into_iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let shown: Vec<_> = left.by_ref().take(most.unwrap_or(usize::MAX)).collect();
    let last = left.next().and_then(|_| shown.last()).map(|(key, _)| format!("{TOKEN}{key}"));
    Ok(Page { items: shown.into_iter().map(|(_, item)| item).collect(), next: last })
}
