//! The reader of the Settings table.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use spot_domain::settings::{BadOverride, Settings, Value, scopes};
use spot_domain::{AccountId, Region};

use crate::clients::Stack;
use crate::environment::{BadEnvironment, optional, variable};
use crate::error::CallError;
use crate::tables::batches::{self, Repeat};
use crate::tables::row::{self, Row};

/// The key: `global`, `account#<id>` or `account#<id>#<region>` (S).
const SCOPE: &str = "scope";
/// Attempts for the rows that DynamoDB left unread.
const ATTEMPTS: u32 = 3;

/// The reason for which no settings could be loaded. Nothing is done without them.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// An override that can't be applied.
    #[error(transparent)]
    Override(#[from] BadOverride),
    /// The table did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stack's environment is incomplete or malformed.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

/// Returns the settings for an account and region: the defaults, then each scope's overrides, nearest last.
///
/// # Errors
/// An override can't be applied, or the table does not answer.
pub async fn load(stack: &Stack, account: &AccountId, region: &Region) -> Result<Settings, SettingsError> {
    let (settings, bad) = read(stack, account, region).await?;
    bad.into_iter().next().map_or(Ok(settings), |first| Err(first.into()))
}

/// Returns the settings with every override that can be applied. For any other field the value of a further scope
/// holds, or its default. Each such override is logged.
///
/// A mistake in a row must neither open the gate for all others nor keep a group in the middle of a swap. Nor must it
/// take an opt-out tag or a quiet period out of force that stands beside it. Swaps, audit and scan stop at such an
/// override, and name it.
///
/// # Errors
/// The table does not answer.
pub async fn load_what_holds(
    stack: &Stack,
    account: &AccountId,
    region: &Region,
) -> Result<Settings, SettingsError> {
    let (settings, bad) = read(stack, account, region).await?;
    for error in bad {
        tracing::error!(account_id = %account, %region, "an override is left out: {error}");
    }
    Ok(settings)
}

/// Reads the rows of an account and region. Returns what of them holds, and the overrides that can't be applied.
async fn read(
    stack: &Stack,
    account: &AccountId,
    region: &Region,
) -> Result<(Settings, Vec<BadOverride>), SettingsError> {
    let table: String = variable("SETTINGS_TABLE")?;
    let scopes = scopes(account, region);
    let keys = scopes.iter().map(|scope| row::key([(SCOPE, scope)])).collect();
    let rows = batches::get(&stack.dynamodb, &table, keys, [], Repeat::Attempts(ATTEMPTS)).await?;
    Ok(what_holds(&scopes, &rows))
}

/// Applies the rows of these scopes, furthest first. Returns the overrides that can't be applied, too.
fn what_holds(scopes: &[String], rows: &[Row]) -> (Settings, Vec<BadOverride>) {
    let (mut settings, mut all_bad) = (Settings::default(), Vec::new());
    for scope in scopes {
        let is_scope = |row: &&Row| row::text_in(row, SCOPE) == Some(scope);
        let Some(row) = rows.iter().find(is_scope) else { continue };
        let (mut nearer, bad) = settings.with_what_holds(scope, &overrides(row));
        all_bad.extend(bad);
        all_bad.extend(outlive_a_step(scope, &mut nearer, &settings));
        settings = nearer;
    }
    (settings, all_bad)
}

/// The longest life of a step's Lambda, in seconds: `Timeout` of the optimizers in `template.yaml`.
const STEP_LIVES_FOR: u32 = 60;

/// A setting that says for how long a call of a step may still land, or the step itself live.
type Wait = (&'static str, fn(&mut Settings) -> &mut u32);

const WAITS: [Wait; 2] = [
    ("launch_visible_after_seconds", |settings| &mut settings.launch_visible_after_seconds),
    ("reconcile_after_seconds", |settings| &mut settings.reconcile_after_seconds),
];

/// Refuses a wait after which a step may still run: the reconciler would act beside it, and its last call land after an undo
/// has looked. Each keeps the value of the further scopes.
///
/// Local AWS waits for that step to end, and says by its environment that there is no such time.
fn outlive_a_step(scope: &str, nearer: &mut Settings, further: &Settings) -> Vec<BadOverride> {
    let shortest = optional("SHORTEST_RECONCILE_AFTER_SECONDS").and_then(|text| text.parse().ok());
    let shortest: u32 = shortest.unwrap_or(STEP_LIVES_FOR + 5);
    let mut further = further.clone();
    let mut refused = Vec::new();
    for (field, wait) in WAITS {
        let seconds = *wait(nearer);
        if seconds >= shortest {
            continue;
        }
        *wait(nearer) = *wait(&mut further);
        refused.push(BadOverride {
            scope: scope.to_owned(),
            field: field.to_owned(),
            problem: format!(
                "{seconds} is too short: a step may live for {STEP_LIVES_FOR} s; expected {shortest} to 3600"
            ),
        });
    }
    refused
}

/// Returns the overrides in a row. `Settings::with` says which of them can't be applied.
#[must_use]
pub fn overrides(row: &Row) -> BTreeMap<String, Value> {
    row.iter()
        .filter(|(field, _)| *field != SCOPE)
        .map(|(field, value)| (field.clone(), parse(value)))
        .collect()
}

fn parse(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::N(number) => number.parse().map_or(Value::Other, Value::Number),
        AttributeValue::S(text) => Value::Text(text.clone()),
        AttributeValue::Bool(b) => Value::Bool(*b),
        _ => Value::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_step_waits_for_longer_than_it_lives() {
        for (field, wait) in WAITS {
            let refused = |seconds| {
                let mut nearer = Settings::default();
                *wait(&mut nearer) = seconds;
                let refused = outlive_a_step("global", &mut nearer, &Settings::default());
                (refused, *wait(&mut nearer))
            };
            let (too_short, kept) = refused(64);
            let [BadOverride { scope, field: named, problem }] = &too_short[..] else {
                panic!("{too_short:?}");
            };
            assert_eq!((scope.as_str(), named.as_str(), kept), ("global", field, 90));
            assert_eq!(problem, "64 is too short: a step may live for 60 s; expected 65 to 3600");
            assert_eq!(refused(65), (Vec::new(), 65));
        }
    }

    fn row(scope: &str, fields: &[(&str, AttributeValue)]) -> Row {
        let fields = fields.iter().map(|(field, value)| ((*field).to_owned(), value.clone()));
        fields.chain([(SCOPE.to_owned(), row::text(scope))]).collect()
    }

    #[test]
    fn a_field_that_cannot_be_applied_has_the_value_of_a_further_scope() {
        let scopes = scopes(&"123456789012".parse().unwrap(), &"us-east-1".parse().unwrap());
        let [global, account, place] = &scopes;
        let rows = [
            row(account, &[("opt_out_tag", row::text("hands=off")), ("poison_days", row::number(&3))]),
            row(global, &[("opt_out_tag", row::text("hands-off")), ("poll_seconds", row::text("3"))]),
            row(place, &[("reconcile_after_seconds", row::number(&64)), ("max_swaps", row::number(&7))]),
        ];
        let (settings, bad) = what_holds(&scopes, &rows);
        let expected = Settings {
            opt_out_tag: "hands-off".to_owned(),
            poison_days: 3,
            max_swaps: 7,
            ..Settings::default()
        };
        assert_eq!(settings, expected);
        let named: Vec<_> = bad.iter().map(|bad| (&bad.scope, bad.field.as_str())).collect();
        let left_out =
            [(global, "poll_seconds"), (account, "opt_out_tag"), (place, "reconcile_after_seconds")];
        assert_eq!(named, left_out);
    }

    #[test]
    fn a_step_lives_as_long_as_the_template_says() {
        let template = include_str!("../../../../template.yaml");
        for optimizer in
            ["ClusterOptimizerFunction:", "KubernetesOptimizerFunction:", "LabOptimizerFunction:"]
        {
            let (_, function) = template.split_once(&format!("\n  {optimizer}")).unwrap();
            let (_, timeout) = function.split_once("\n      Timeout: ").unwrap();
            assert_eq!(timeout.lines().next(), Some(STEP_LIVES_FOR.to_string().as_str()), "{optimizer}");
        }
    }
}
