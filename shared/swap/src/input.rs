//! The input of an execution, as a person typed it into the console.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::StepError;

/// Parses the input. `shape` is an example of a correct input, which the error shows.
///
/// # Errors
/// [`StepError::InvalidInput`] names the field and its problem.
pub fn parse<T: DeserializeOwned>(input: Value, shape: &str) -> Result<T, StepError> {
    if !input.is_object() {
        return Err(StepError::InvalidInput(format!("the input must be a JSON object: {shape}")));
    }
    spot_cloud::input::parse(None, input).map_err(|bad| StepError::InvalidInput(bad.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use spot_domain::swap::report::SwapRequest;

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
