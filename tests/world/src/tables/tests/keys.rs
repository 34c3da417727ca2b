#![allow(clippy::unwrap_used)]

use super::*;

fn update(key: &Value, expression: &str, values: &Value) -> Value {
    json!({"TableName": "swaps", "Key": key, "UpdateExpression": expression, "ExpressionAttributeValues": values})
}

#[test]
fn a_key_must_be_that_of_the_table() {
    let mut tables = tables();
    let schema = "The provided key element does not match the schema";
    for (table, key, problem) in [
        ("swaps", json!({}), schema),
        ("swaps", json!({"id": {"S": "a"}}), schema),
        ("swaps", json!({"target": {"N": "1"}}), schema),
        ("swaps", json!({"target": {"S": "a"}, "stage": {"S": "x"}}), schema),
        ("waste", json!({"account_region": {"S": "a"}}), schema),
        ("swaps", json!({"target": {"S": ""}}), "cannot contain an empty string value. Key: target"),
        (
            "waste",
            json!({"account_region": {"S": "a"}, "resource": {"S": ""}}),
            "empty string value. Key: resource",
        ),
        ("swaps", json!({"target": {"S": "k".repeat(2049)}}), "2048 bytes"),
        ("waste", json!({"account_region": {"S": "a"}, "resource": {"S": "k".repeat(1025)}}), "1024 bytes"),
    ] {
        for action in ["GetItem", "DeleteItem", "UpdateItem"] {
            let told = refused(&mut tables, action, json!({"TableName": table, "Key": key}));
            assert!(told.contains(problem), "{action} {key}: {told}");
        }
    }
}

#[test]
fn an_item_must_have_its_key_and_fit() {
    let mut tables = tables();
    for (item, problem) in [
        (json!({"stage": {"S": "x"}}), "Missing the key target in the item"),
        (json!({"target": {"N": "1"}}), "Type mismatch for key target expected: S actual: N"),
        (json!({"target": {"S": ""}}), "empty string value"),
        (json!({"target": {"S": "a"}, "journal": {"S": "x".repeat(400 * 1024)}}), "maximum allowed size"),
        (json!({"target": {"S": "a"}, "pools": {"SS": []}}), "may not be empty"),
    ] {
        let told = refused(&mut tables, "PutItem", json!({"TableName": "swaps", "Item": item}));
        assert!(told.contains(problem), "{told}");
    }
    let most = 400 * 1024 - "target".len() - 1 - "journal".len();
    tables.put("swaps", &json!({"target": {"S": "a"}, "journal": {"S": "x".repeat(most)}})).unwrap();
    let grown = update(&json!({"target": {"S": "a"}}), "SET j = :x", &json!({":x": {"S": ""}}));
    assert!(refused(&mut tables, "UpdateItem", grown).contains("Item size to update"));
}

#[test]
fn the_key_of_a_row_is_never_updated() {
    let mut tables = tables();
    for expression in ["SET target = :x", "REMOVE target"] {
        let values = if expression.contains(":x") { json!({":x": {"S": "b"}}) } else { Value::Null };
        let told =
            refused(&mut tables, "UpdateItem", update(&json!({"target": {"S": "a"}}), expression, &values));
        assert!(told.contains("Cannot update attribute target. This attribute is part of the key"), "{told}");
    }
}

#[test]
fn every_placeholder_is_used_and_defined() {
    let mut tables = tables();
    let base =
        json!({"TableName": "swaps", "Key": {"target": {"S": "a"}}, "UpdateExpression": "SET stage = :x"});
    for (names, values, problem) in [
        (
            Value::Null,
            json!({":x": {"S": ""}, ":y": {"S": ""}}),
            "ExpressionAttributeValues unused in expressions: keys: {:y}",
        ),
        (
            json!({"#a": "a"}),
            json!({":x": {"S": ""}}),
            "ExpressionAttributeNames unused in expressions: keys: {#a}",
        ),
        (Value::Null, Value::Null, "attribute value: :x"),
        (Value::Null, json!({}), "ExpressionAttributeValues must not be empty"),
        (json!({}), json!({":x": {"S": ""}}), "ExpressionAttributeNames must not be empty"),
        (Value::Null, json!({"x": {"S": ""}}), "invalid key"),
        (json!({"#a-b": "a"}), json!({":x": {"S": ""}}), "invalid key"),
    ] {
        let mut call = base.clone();
        call["ExpressionAttributeNames"] = names;
        call["ExpressionAttributeValues"] = values;
        let told = refused(&mut tables, "UpdateItem", call);
        assert!(told.contains(problem), "{told}");
    }
    let get =
        json!({"TableName": "swaps", "Key": {"target": {"S": "a"}}, "ExpressionAttributeNames": {"#a": "a"}});
    assert!(refused(&mut tables, "GetItem", get).contains("unused"));
}

#[test]
fn a_table_that_does_not_exist_is_not_found() {
    let (status, answer) =
        send(&mut tables(), "GetItem", json!({"TableName": "gone", "Key": {"target": {"S": "a"}}}));
    assert_eq!((status, kind(&answer)), (400, "ResourceNotFoundException"));
    let by_arn = json!({"TableName": "arn:aws:dynamodb:us-east-1:123456789012:table/swaps", "Key": {"target": {"S": "a"}}});
    assert_eq!(done(&mut tables(), "GetItem", by_arn), json!({}));
}

#[test]
fn a_row_is_read_until_the_sweep_after_its_end() {
    let mut tables = tables();
    for (target, expires_at) in [
        ("past", json!({"N": "1700000000"})),
        ("now", json!({"N": "1700000100"})),
        ("text", json!({"S": "1700000000"})),
        ("milliseconds", json!({"N": "1700000000000"})),
        ("ancient", json!({"N": "1"})),
    ] {
        tables.put("swaps", &json!({"target": {"S": target}, "expires_at": expires_at})).unwrap();
    }
    tables
        .put(
            "waste",
            &json!({"account_region": {"S": "a"}, "resource": {"S": "r"}, "expires_at": {"N": "1"}}),
        )
        .unwrap();
    assert_ne!(row(&mut tables, "past"), Value::Null);
    assert_eq!(tables.expire(at(1_700_000_100)), 1);
    assert_eq!(row(&mut tables, "past"), Value::Null);
    assert_eq!((tables.items("swaps").count(), tables.items("waste").count()), (4, 1));
}

#[test]
fn a_table_is_read_as_the_template_declares_it() {
    let mut properties = json!({
        "KeySchema": [{"AttributeName": "subject", "KeyType": "HASH"}, {"AttributeName": "account_id", "KeyType": "RANGE"}],
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": true},
    });
    let spec = TableSpec::from_properties("sightings", &properties).unwrap();
    assert_eq!(
        (spec.hash.as_str(), spec.range.as_deref(), spec.ttl.as_deref()),
        ("subject", Some("account_id"), Some("expires_at"))
    );
    properties["TimeToLiveSpecification"]["Enabled"] = json!(false);
    assert_eq!(TableSpec::from_properties("sightings", &properties).unwrap().ttl, None);
    assert_eq!(TableSpec::from_properties("sightings", &json!({})), None);
}
