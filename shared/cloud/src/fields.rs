//! Optional fields of AWS's answers: an empty text and none are the same.

/// Returns the text of a field that is filled in.
pub(crate) fn filled(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}
