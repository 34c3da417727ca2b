//! A row of the Swaps table, held by a scripted DynamoDB.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};
use spot_cloud::tables::swaps::{Lease, Leased, Owner, Swaps, SwapsError};
use spot_domain::swap::journal::{Journal, Retirement, SwapKind};
use spot_scripted::{Endpoint, ScriptedAnswer};

const ARN: &str = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web";

pub(crate) fn lease() -> Lease {
    let owner = "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap();
    Lease {
        on: Leased::Group { arn: ARN.parse().unwrap(), name: "web".parse().unwrap() },
        account_id: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        owner: Owner::ReconcilerFor(owner),
        since: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn journal() -> Journal {
    Journal::new(
        &"i-0123456789abcdef0".parse().unwrap(),
        Timestamp::UNIX_EPOCH,
        Retirement::Detach,
        SwapKind::Group,
    )
}

/// A row as DynamoDB stores it, as far as the conditions of `revise`, `write` and `note` ask for it.
pub(crate) struct Row(pub(crate) Mutex<Value>);

impl Row {
    /// The row of our lease, without an attribute `revision`.
    pub(crate) fn new(journal: &Journal) -> Arc<Self> {
        let lease = lease();
        Arc::new(Self(Mutex::new(json!({
            "target": {"S": lease.key()},
            "leased": {"S": serde_json::to_string(&lease.on).unwrap()},
            "account_id": {"S": lease.account_id.to_string()},
            "region": {"S": lease.region.to_string()},
            "lease_owner": {"S": lease.owner.to_string()},
            "lease_since": {"N": "0"},
            "stage": {"S": journal.stage.name()},
            "journal": {"S": serde_json::to_string(journal).unwrap()},
        }))))
    }

    pub(crate) fn has(&self, attribute: &str) -> bool {
        self.0.lock().unwrap().get(attribute).is_some()
    }

    pub(crate) fn set(&self, attribute: &str, value: Value) {
        self.0.lock().unwrap()[attribute] = value;
    }

    /// Answers a read, or a write by its conditions.
    fn answer(&self, action: &str, body: &str) -> ScriptedAnswer {
        let mut row = self.0.lock().unwrap();
        if action == "GetItem" {
            return ScriptedAnswer::ok(json!({ "Item": *row }).to_string());
        }
        let request: Value = serde_json::from_str(body).unwrap();
        let condition = request["ConditionExpression"].as_str().unwrap();
        let given = &request["ExpressionAttributeValues"];
        let number = |value: &Value| value["N"].as_str().map(|n| n.parse::<u64>().unwrap());
        let stored = number(&row["revision"]);
        let holds = [
            ("lease_owner = :me", row["lease_owner"] == given[":me"]),
            ("attribute_not_exists(journal)", condition.contains(" OR ") || row.get("journal").is_none()),
            ("attribute_exists(journal)", row.get("journal").is_some()),
            ("revision = :read", stored.is_none() || stored == number(&given[":read"])),
            ("revision = :revision)", stored.is_none() || stored == number(&given[":revision"])),
            ("stage = :before", given.get(":before").is_some_and(|before| &row["stage"] == before)),
            ("revision <= :revision", stored.is_none() || stored <= number(&given[":revision"])),
            ("revision <= :known", stored.is_none() || stored <= number(&given[":known"])),
            ("stage = :stage", row["stage"] == given[":stage"]),
            ("swap_id = :swap", row.get("swap_id").is_none_or(|id| id == &given[":swap"])),
            ("closed_swap = :swap", row.get("closed_swap") == given.get(":swap")),
        ];
        let is_closed =
            condition.contains("attribute_not_exists(journal) OR") && row.get("journal").is_none();
        let begins = condition.contains("attribute_not_exists(stage) OR") && row.get("stage").is_none();
        let is_either = is_closed || begins;
        let asked = |asked: &str| condition.contains(asked) && !(is_either && asked != "lease_owner = :me");
        if holds.iter().any(|(condition, holds)| asked(condition) && !holds) {
            let wants_row = request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD";
            return ScriptedAnswer::condition_failed(wants_row.then(|| row.to_string()).as_deref());
        }
        let update = request["UpdateExpression"].as_str().unwrap();
        for (attribute, value) in [
            ("journal", ":journal"),
            ("stage", ":stage"),
            ("revision", ":revision"),
            ("swap_id", ":swap"),
            ("closed_swap", ":swap"),
            ("closed_as", ":end"),
            ("closed_outcome", ":outcome"),
            ("journal", ":next"),
            ("revision", ":next_revision"),
            ("swap_id", ":next_swap"),
        ] {
            let set = format!("{attribute} = {value}");
            let is_set = |end: &str| update.contains(&format!("{set}{end}"));
            if is_set(",") || is_set(" ") || update.ends_with(&set) {
                row[attribute] = given[value].clone();
            }
        }
        if let Some((_, removed)) = update.split_once("REMOVE ") {
            let row = row.as_object_mut().unwrap();
            removed.split(", ").for_each(|attribute| drop(row.remove(attribute)));
        }
        ScriptedAnswer::ok("{}")
    }
}

/// Returns the table over this row. The answers to the first `lost` writes are lost: each is carried out.
pub(crate) async fn table(row: &Arc<Row>, lost: usize) -> (Swaps, Endpoint) {
    let (row, left) = (Arc::clone(row), AtomicUsize::new(lost));
    let endpoint = Endpoint::answering(move |action, body| {
        let answer = row.answer(action, body);
        let is_lost = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_lost { ScriptedAnswer::json_error(500, "InternalServerError") } else { answer }
    })
    .await;
    let client = aws_sdk_dynamodb::Client::new(&endpoint.config().await);
    (Swaps::over(client, "swaps"), endpoint)
}

pub(crate) fn is_overtaken(answer: &Result<(), SwapsError>) -> bool {
    matches!(answer, Err(SwapsError::Overtaken { .. }))
}

pub(crate) fn is_lease_lost(answer: &Result<(), SwapsError>) -> bool {
    matches!(answer, Err(SwapsError::LeaseLost { .. }))
}

pub(crate) fn with_two_ahead() -> Journal {
    let ahead = |id: &str| {
        Journal::new(&id.parse().unwrap(), Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group)
    };
    Journal { ahead: vec![ahead("i-0123456789abcdef1"), ahead("i-0123456789abcdef2")], ..journal() }
}
