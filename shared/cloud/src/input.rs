//! The input of a function: what a schedule, a person or another function hands to it.

use serde::de::DeserializeOwned;
use serde_json::Value;
use spot_domain::words::Cause;

/// The name of an input as a whole, where no field of it is wrong.
pub const WHOLE: &str = "input";

/// An input that can't be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BadInput {
    /// The path of the field, or [`WHOLE`].
    pub field: String,
    /// The problem of its value.
    #[source]
    pub problem: Cause,
}

/// Parses an input, or the part of one at the field `at`.
///
/// # Errors
/// [`BadInput`] names the field.
pub fn parse<T: DeserializeOwned>(at: Option<&'static str>, input: Value) -> Result<T, BadInput> {
    // Serde would parse a struct from an array too, by position.
    if !input.is_object() {
        let problem = "must be a JSON object".into();
        return Err(BadInput { field: at.unwrap_or(WHOLE).to_owned(), problem });
    }
    serde_path_to_error::deserialize(input).map_err(|error| {
        let problem = error.inner().to_string();
        let inside = Some(error.path().to_string()).filter(|path| path != ".");
        let missing = problem.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let path: Vec<&str> = [at, inside.as_deref(), missing].into_iter().flatten().collect();
        let field = if path.is_empty() { WHOLE.to_owned() } else { path.join(".") };
        BadInput { field, problem: Cause::of(error.into_inner()) }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Request {
        #[serde(rename = "region")]
        _region: String,
    }

    #[test]
    fn an_error_names_the_field() {
        for (at, input, expected) in [
            (None, json!({"region": 1}), "region: invalid type"),
            (None, json!({"regoin": "us-east-1"}), "regoin: unknown field `regoin`"),
            (None, json!({}), "region: missing field `region`"),
            (Some("detail"), json!({"region": null}), "detail.region: invalid type"),
            (None, json!(["us-east-1"]), "input: must be a JSON object"),
            (Some("detail"), json!("us-east-1"), "detail: must be a JSON object"),
        ] {
            let error = parse::<Request>(at, input.clone()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{input}: {error}");
        }
        assert!(parse::<Request>(None, json!({"region": "us-east-1"})).is_ok());
    }
}
