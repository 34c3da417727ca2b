#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::Value;

use super::*;
use crate::corpus::Sample;

fn corpus(samples: &[&str]) -> Corpus {
    let sample = |text: &&str| Sample { name: "sample".to_owned(), bytes: text.as_bytes().to_vec() };
    Corpus::of(samples.iter().map(sample).collect(), &["magic"])
}

/// Searches with a parser of JSON that has a fault.
fn found(samples: &[&str], fault: impl Fn(&Value) -> bool) -> Found {
    let check = |input: &[u8]| {
        outcome(|| {
            let parsed = serde_json::from_slice(input).unwrap_or_default();
            assert!(!fault(&parsed), "the fault of the parser");
            Ok(())
        })
    };
    let watch = Watch::over("engine");
    search(&corpus(samples), 20_000, |input| watch.during(input, || check(input))).unwrap_err()
}

#[test]
fn a_panic_is_found_with_its_place_and_made_small() {
    let sample = r#"{"detail": {"id": "i-1", "state": "running"}, "source": "aws.ec2"}"#;
    let fault = |json: &Value| json["detail"]["id"].is_array() && json["detail"]["state"] == "running";
    let Found { problem, input } = found(&[sample], fault);
    assert!(problem.contains("tests.rs") && problem.contains("the fault of the parser"), "{problem}");
    let json: Value = serde_json::from_slice(&input).unwrap();
    assert!(fault(&json), "it still shows the fault: {json}");
    // Of the edits that led here, those went that the fault did not need.
    assert!(input.len() <= sample.len(), "{json}");
}

#[test]
fn what_is_json_in_a_text_of_json_is_edited_as_a_tree() {
    let row = r#"{"journal": {"S": "{\"old\": {\"id\": \"i-1\"}}"}}"#;
    let id = |json: &Value| -> Option<Value> {
        serde_json::from_str::<Value>(json["journal"]["S"].as_str()?).ok()?.pointer("/old/id").cloned()
    };
    let Found { input, .. } = found(&[row], |json| id(json).is_some_and(|id| id != "i-1"));
    assert!(String::from_utf8(input).unwrap().contains("journal"));
}

#[test]
fn samples_are_mixed() {
    let both = |json: &Value| json["a"] == json["b"] && json["a"] != Value::Null;
    let Found { input, .. } = found(&[r#"{"a": 1}"#, r#"{"b": 2}"#], both);
    assert!(serde_json::from_slice::<Value>(&input).unwrap().is_object());
}

#[test]
fn an_element_goes_with_all_that_is_in_it() {
    let sample = "<list><item><id>1</id></item><item><id>2</id></item></list>";
    let check = |input: &[u8]| {
        let is_cut = input == b"<list><item><id>2</id></item></list>";
        if is_cut { Err("without the first item".to_owned()) } else { Ok(()) }
    };
    search(&corpus(&[sample]), 20_000, check).unwrap_err();
}

#[test]
fn a_parser_without_a_fault_is_left_in_peace() {
    let check = |input: &[u8]| {
        let _ = serde_json::from_slice::<Value>(input);
        Ok(())
    };
    assert_eq!(search(&corpus(&["{\"a\": [1, 2]}", "<a/>", ""]), 2_000, check), Ok(()));
}
