//! The input of a function: what a schedule, a person or another function hands to it.

use serde::de::DeserializeOwned;
use serde_json::Value;
use spot_domain::spelling::is_alike;
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
        let problem = match renamed(&problem) {
            Some(words) => Cause::in_words(words, error.into_inner()),
            None => Cause::of(error.into_inner()),
        };
        BadInput { field, problem }
    })
}

/// Returns true for an event of EventBridge, also if a field of it is missing or misspelt: the error then names that field.
#[must_use]
pub fn is_event(input: &Value) -> bool {
    ["detail-type", "source", "detail"].into_iter().any(|field| input.get(field).is_some())
}

/// Returns serde's words about an unknown field, with the known one that it may be meant as.
fn renamed(problem: &str) -> Option<String> {
    let (name, expected) = problem.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    let nearest = expected.split('`').skip(1).step_by(2).find(|known| is_alike(name, known))?;
    Some(format!("{problem}; rename it to {nearest:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spot_domain::swap::lab::LabSwapRequest;
    use spot_domain::swap::node::NodeSwapRequest;
    use spot_domain::swap::report::SwapRequest;

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

    fn refusal<T: DeserializeOwned>(input: Value) -> String {
        let taken = format!("{input} is taken");
        parse::<T>(None, input).map_or_else(|bad| bad.to_string(), |_| taken)
    }

    #[test]
    fn a_misspelt_field_of_each_swap_is_refused_with_the_nearest_one() {
        let id = "i-0123456789abcdef0";
        for (refused, misspelt, nearest) in [
            (refusal::<SwapRequest>(json!({"asg_nam": "web"})), "asg_nam", "asg_name"),
            (refusal::<SwapRequest>(json!({"asg_name": "web", "dryRun": true})), "dryRun", "dry_run"),
            (refusal::<SwapRequest>(json!({"asg_name": "web", "max-swaps": 1})), "max-swaps", "max_swaps"),
            (refusal::<NodeSwapRequest>(json!({"instanceId": id})), "instanceId", "instance_id"),
            (refusal::<NodeSwapRequest>(json!({"instance_id": id, "dry_rum": true})), "dry_rum", "dry_run"),
            (
                refusal::<LabSwapRequest>(json!({"instance_id": id, "capture-image": true})),
                "capture-image",
                "capture_image",
            ),
            (
                refusal::<LabSwapRequest>(json!({"instance_id": id, "bringback": true})),
                "bringback",
                "bring_back",
            ),
            (refusal::<Request>(json!({"regoin": "us-east-1"})), "regoin", "region"),
        ] {
            assert!(
                refused.starts_with(&format!("{misspelt}: unknown field `{misspelt}`, expected ")),
                "{refused}"
            );
            assert!(refused.ends_with(&format!("; rename it to {nearest:?}")), "{refused}");
        }
        let strange = refusal::<SwapRequest>(json!({"asg_name": "web", "force": true}));
        assert!(
            strange.starts_with("force: unknown field `force`") && !strange.contains("rename"),
            "{strange}"
        );
    }

    #[test]
    fn a_flag_that_is_no_boolean_is_refused_by_its_name() {
        let id = "i-0123456789abcdef0";
        for value in [json!("true"), json!("false"), json!(1), json!(null)] {
            for (refused, flag) in [
                (refusal::<SwapRequest>(json!({"asg_name": "web", "dry_run": value})), "dry_run"),
                (refusal::<NodeSwapRequest>(json!({"instance_id": id, "dry_run": value})), "dry_run"),
                (refusal::<LabSwapRequest>(json!({"instance_id": id, "dry_run": value})), "dry_run"),
                (refusal::<LabSwapRequest>(json!({"instance_id": id, "bring_back": value})), "bring_back"),
                (
                    refusal::<LabSwapRequest>(json!({"instance_id": id, "capture_image": value})),
                    "capture_image",
                ),
            ] {
                assert!(refused.starts_with(&format!("{flag}: invalid type: ")), "{refused}");
                assert!(refused.contains("expected a boolean"), "{refused}");
            }
        }
    }
}
