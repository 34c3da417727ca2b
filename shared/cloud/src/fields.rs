//! Optional fields of AWS's answers: an empty text counts as absent.

/// Returns the text of a field that is not empty.
pub(crate) fn filled(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}
