//! The input of an execution, as a person typed it into the console.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::StepError;

/// Reads the input. `shape` is what it should look like, for whoever sent something else.
///
/// # Errors
/// [`StepError::InvalidInput`], naming the field and what is wrong with it.
pub fn parse<T: DeserializeOwned>(input: Value, shape: &str) -> Result<T, StepError> {
    // Serde would read a struct from an array too, by position.
    if !input.is_object() {
        return Err(StepError::InvalidInput(format!("the input must be a JSON object: {shape}")));
    }
    serde_path_to_error::deserialize(input).map_err(|error| {
        let field = error.path().to_string();
        let (at, why) = (if field == "." { "the input" } else { &field }, error.inner());
        StepError::InvalidInput(format!("{at}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use spot_domain::swap::SwapRequest;

    #[test]
    fn an_input_that_is_no_object_is_refused_with_its_shape() {
        for input in [serde_json::json!(["web"]), serde_json::json!("web"), Value::Null] {
            let error = parse::<SwapRequest>(input, r#"{"asg_name": "..."}"#).unwrap_err();
            assert_eq!(error.name(), "InvalidInput");
            assert!(error.to_string().contains("\"asg_name\""), "{error}");
        }
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        let error = parse::<SwapRequest>(serde_json::json!({"asg_name": "g", "region": 1}), "").unwrap_err();
        assert!(error.to_string().starts_with("region: "), "{error}");
    }
}
