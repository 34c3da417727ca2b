//! A scripted account: a few instances, their rows, and the calls that a run made.

#![allow(dead_code, unreachable_pub, missing_docs)] // each test binary uses its part
#![allow(clippy::format_collect, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use security_enforcer::announce::Announcer;
use security_enforcer::audit::{Audit, Auditor};
use security_enforcer::auth_table::AuthTable;
use security_enforcer::fleet::facts::InstancePrices;
use security_enforcer::report::report;
use security_enforcer::summary::AuditSummary;
use security_enforcer::terminate::enforce;
use spot_cloud::access::Access;
use spot_cloud::announcements::Announcements;
use spot_cloud::price_list::PriceList;
use spot_cloud::scopes::{AccountRegion, Scope};
use spot_domain::EnvironmentType;
use spot_domain::audit::enforcement::AuditRun;
use spot_domain::audit::swaps_in_progress::SwapsInProgress;
use spot_domain::clock;
use spot_domain::settings::Settings;
use spot_scripted::{Endpoint, ScriptedAnswer};

pub const HOUR: i64 = 3_600;

/// An instance: its id and its tags.
pub type Listed = (String, Vec<(&'static str, &'static str)>);

/// A call that a run made: its action (`DescribeInstances`) and its body.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub action: &'a str,
    pub body: &'a str,
}

/// A rule that answers before the account does.
type Override = Box<dyn Fn(&Asked<'_>, usize) -> Option<ScriptedAnswer> + Send + Sync>;

/// The state of the scripted account.
pub struct Account {
    /// Instances in pages: id and tags.
    pub pages: Vec<Vec<Listed>>,
    /// Rows of InstanceAuth, as DynamoDB writes them.
    pub rows: Vec<String>,
    /// The swaps that the rows of Swaps claim.
    pub swaps: SwapsInProgress,
    /// A Spot instance: the ClientToken of its launch, its state and its id.
    pub newcomer: Option<(String, &'static str, String)>,
    /// The row with the notices about the runs themselves: none, or one.
    pub told: Vec<String>,
    /// The answers that come before all others. The function gets the number of earlier calls of the action.
    pub before: Override,
    pub settings: Settings,
    pub enforce: bool,
    /// The row of Accounts or the input names the region.
    pub is_named: bool,
    /// True if at least one subscriber hears the alerts; `None` if SNS does not answer.
    pub heard: Option<bool>,
}

/// The effects of a run.
pub struct Outcome {
    pub audit: Audit,
    pub summary: AuditSummary,
    /// The action and the body of every call.
    pub calls: Vec<(String, String)>,
}

pub fn instance(n: usize) -> String {
    format!("i-{n:017x}")
}

/// Returns a row flagged 25 hours ago, with its notice and its reminder, seen an hour ago by another run.
pub fn due_row(n: usize) -> String {
    row(n, "FLAGGED", 25 * HOUR, &noticed_and_told(2 * HOUR))
}

/// Returns the attributes of a row whose notice was sent with the flag, and whose last reminder was sent `ago`
/// seconds ago.
pub fn noticed_and_told(ago: i64) -> String {
    let told_at = clock::now().as_second() - ago;
    format!(r#","notice_delay_seconds":{{"N":"0"}},"told_at":{{"N":"{told_at}"}}"#)
}

pub fn row(n: usize, status: &str, age: i64, more: &str) -> String {
    let now = clock::now().as_second();
    format!(
        r#"{{"account_region":{{"S":"p"}},"instance_id":{{"S":"{}"}},"auth_status":{{"S":"{status}"}},
        "flagged_at":{{"N":"{}"}},"last_seen":{{"N":"{}"}},"seen_by":{{"S":"before"}},"reason":{{"S":"r"}}{more}}}"#,
        instance(n),
        now - age,
        now - HOUR
    )
}

impl Account {
    /// Returns an account with `n` untagged running instances in one page, with enforcement on and no limits in
    /// the way.
    pub fn with(n: usize) -> Self {
        let settings = Settings {
            max_terminations_per_run: 1_000,
            max_terminations_percent: 100,
            ..Settings::default()
        };
        Self {
            pages: vec![(1..=n).map(|n| (instance(n), vec![])).collect()],
            rows: vec![],
            swaps: SwapsInProgress::default(),
            newcomer: None,
            told: vec![],
            before: Box::new(|_, _| None),
            settings,
            enforce: true,
            is_named: true,
            heard: Some(true),
        }
    }

    /// Returns an account whose `n` instances are all due.
    pub fn with_due(n: usize) -> Self {
        Self { rows: (1..=n).map(due_row).collect(), ..Self::with(n) }
    }

    pub fn answering(
        self,
        before: impl Fn(&Asked<'_>, usize) -> Option<ScriptedAnswer> + Send + Sync + 'static,
    ) -> Self {
        Self { before: Box::new(before), ..self }
    }

    /// Runs once against the account.
    pub async fn run(self) -> Outcome {
        let (settings, may, swaps) = (self.settings.clone(), self.enforce, self.swaps.clone());
        let (heard, is_named) = (self.heard, self.is_named);
        let calls = Arc::new(Mutex::new(Vec::<(String, String)>::new()));
        let log = Arc::clone(&calls);
        let endpoint = Endpoint::answering(move |action, body| {
            let asked = Asked { action, body };
            let mut log = log.lock().unwrap();
            let asked_before = log.iter().filter(|(a, _)| a == action).count();
            log.push((action.to_owned(), body.to_owned()));
            drop(log);
            (self.before)(&asked, asked_before).unwrap_or_else(|| self.answer(&asked))
        })
        .await;
        let config = endpoint.config().await;
        let auditor = Auditor {
            table: AuthTable::new(aws_sdk_dynamodb::Client::new(&config), "auth".into()),
            announcer: Announcer::new(Announcements::over(
                &config,
                "arn:aws:sns:us-east-1:123456789012:alerts".into(),
            )),
            swaps: Arc::new([(place(), swaps)].into()),
            prices: InstancePrices::of(PriceList::over(&config)),
            look: AuditRun { at: clock::now(), run: "now".into() },
            heard: heard == Some(true),
        };
        let audit = auditor.audit(visit(settings, may, is_named), aws_sdk_ec2::Client::new(&config)).await;
        let audits = [audit];
        let mut summary = AuditSummary::of(&audits, vec![]);
        enforce(&auditor, &audits, true, &mut summary).await;
        report(&auditor, heard == Some(false), &mut summary).await;
        let [audit] = audits;
        let calls = calls.lock().unwrap().clone();
        Outcome { audit, summary, calls }
    }

    fn answer(&self, asked: &Asked<'_>) -> ScriptedAnswer {
        match asked.action {
            "Query" if asked.body.contains("runs") => {
                ScriptedAnswer::ok(format!(r#"{{"Items":[{}]}}"#, self.told.join(",")))
            }
            "Query" => ScriptedAnswer::ok(format!(r#"{{"Items":[{}]}}"#, self.rows.join(","))),
            "UpdateItem" | "TransactWriteItems" => ScriptedAnswer::ok("{}"),
            "PutEvents" => ScriptedAnswer::ok(r#"{"FailedEntryCount":0,"Entries":[]}"#),
            "Publish" => ScriptedAnswer::ok(
                "<PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>",
            ),
            "DescribeInstances" => ScriptedAnswer::ok(self.describe(asked.body)),
            "GetProducts" => ScriptedAnswer::ok(price_list("0.0960000000")),
            "DescribeInstanceAttribute" => ScriptedAnswer::ok(protection(false)),
            "TerminateInstances" => ScriptedAnswer::ok("<TerminateInstancesResponse/>"),
            other => ScriptedAnswer::json_error(500, other),
        }
    }

    /// Returns the instances by id, or a page, whose token is its number.
    fn describe(&self, body: &str) -> String {
        if body.contains("client-token") {
            return self.newcomer.as_ref().map_or_else(|| reservations([].iter(), None), spot);
        }
        if body.contains("instance-id") {
            let all = self.pages.iter().flatten();
            return reservations(all.filter(|(id, _)| body.contains(id.as_str())), None);
        }
        let token = body.split('&').find_map(|pair| pair.strip_prefix("NextToken="));
        let page: usize = token.map_or(0, |token| token.parse().unwrap());
        reservations(self.pages[page].iter(), (page + 1 < self.pages.len()).then_some(page + 1))
    }
}

fn spot((token, state, id): &(String, &str, String)) -> String {
    let launch =
        format!("<instanceLifecycle>spot</instanceLifecycle><clientToken>{token}</clientToken><tagSet>");
    let described = reservations([(id.clone(), vec![])].iter(), None).replace("<tagSet>", &launch);
    described.replace("<name>running</name>", &format!("<name>{state}</name>"))
}

/// Returns one product of the Price List API, with this price in USD an hour.
pub fn price_list(usd: &str) -> String {
    let dimension = serde_json::json!({"unit": "Hrs", "pricePerUnit": {"USD": usd}});
    let product = serde_json::json!({"terms": {"OnDemand": {"A": {"priceDimensions": {"B": dimension}}}}});
    serde_json::json!({"PriceList": [product.to_string()]}).to_string()
}

pub fn protection(on: bool) -> String {
    format!(
        "<DescribeInstanceAttributeResponse><instanceId>i-00000000000000001</instanceId>\
         <disableApiTermination><value>{on}</value></disableApiTermination></DescribeInstanceAttributeResponse>"
    )
}

pub fn reservations<'a>(instances: impl Iterator<Item = &'a Listed>, next: Option<usize>) -> String {
    let instances: String = instances
        .map(|(id, tags)| {
            let tags: String =
                tags.iter().map(|(k, v)| format!("<item><key>{k}</key><value>{v}</value></item>")).collect();
            format!(
                "<item><instanceId>{id}</instanceId><instanceState><code>16</code><name>running</name>\
                 </instanceState><instanceType>m5.large</instanceType><tagSet>{tags}</tagSet></item>"
            )
        })
        .collect();
    let next = next.map(|n| format!("<nextToken>{n}</nextToken>")).unwrap_or_default();
    format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{instances}</instancesSet></item>\
         </reservationSet>{next}</DescribeInstancesResponse>"
    )
}

fn place() -> AccountRegion {
    AccountRegion { account_id: "123456789012".parse().unwrap(), region: "us-east-1".parse().unwrap() }
}

fn visit(settings: Settings, auto_terminate: bool, is_named: bool) -> Scope {
    Scope {
        place: place(),
        access: Access { environment_type: EnvironmentType::Prod, role: None },
        settings,
        auto_terminate,
        is_named,
    }
}

impl Outcome {
    /// Returns the bodies of all calls of one action.
    pub fn asked(&self, action: &str) -> Vec<&str> {
        self.calls.iter().filter(|(a, _)| a == action).map(|(_, body)| body.as_str()).collect()
    }

    /// Returns the notices about the run itself that were recorded.
    pub fn told(&self) -> Vec<&str> {
        let updates = self.asked("UpdateItem").into_iter();
        updates.filter(|body| body.contains(r#"{"S":"runs"}"#)).collect()
    }

    /// Returns the rows written, in order: each by itself, or many in a transaction.
    pub fn writes(&self) -> Vec<String> {
        let updates = |(action, body): &(String, String)| -> Vec<String> {
            let transaction = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
            match action.as_str() {
                "UpdateItem" if body.contains(r#"{"S":"runs"}"#) => vec![],
                "UpdateItem" => vec![body.clone()],
                "TransactWriteItems" => transaction["TransactItems"]
                    .as_array()
                    .map(|items| items.iter().map(|item| item["Update"].to_string()).collect())
                    .unwrap_or_default(),
                _ => vec![],
            }
        };
        self.calls.iter().flat_map(updates).collect()
    }

    /// Returns the messages that went out, as a person reads them.
    pub fn messages(&self) -> Vec<String> {
        let message =
            |body: &str| body.split('&').find_map(|field| field.strip_prefix("Message=")).map(decoded);
        self.asked("Publish").into_iter().filter_map(message).collect()
    }

    /// Returns the events that were put: the detail type, and the names of the detail's fields.
    pub fn events(&self) -> Vec<(String, BTreeSet<String>)> {
        let put = |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap();
        let bodies: Vec<_> = self.asked("PutEvents").into_iter().map(put).collect();
        let entries = bodies.iter().flat_map(|body| body["Entries"].as_array().unwrap());
        let event = |entry: &serde_json::Value| {
            let detail = entry["Detail"].as_str().unwrap();
            let detail: serde_json::Map<_, _> = serde_json::from_str(detail).unwrap();
            (entry["DetailType"].as_str().unwrap().to_owned(), detail.keys().cloned().collect())
        };
        entries.map(event).collect()
    }

    /// Returns the terminate calls.
    pub fn terminations(&self) -> Vec<&str> {
        self.asked("TerminateInstances")
    }
}

pub fn refused() -> ScriptedAnswer {
    ScriptedAnswer::json_error(400, "ConditionalCheckFailedException")
}

/// Returns a value of a form, as the query protocol sends it.
fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap()
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).unwrap()
}
