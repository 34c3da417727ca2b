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
        if let Err(too_short) = outlives_a_step(scope, &nearer) {
            nearer.reconcile_after_seconds = settings.reconcile_after_seconds;
            all_bad.push(too_short);
        }
        settings = nearer;
    }
    (settings, all_bad)
}

/// The longest life of a step's Lambda, in seconds: `Timeout` of the optimizers in `template.yaml`.
const STEP_LIVES_FOR: u32 = 60;

/// Refuses a `reconcile_after_seconds` with which the reconciler would act beside a step that still runs.
///
/// Local AWS waits for that step to end, and says by its environment that there is no such time.
fn outlives_a_step(scope: &str, settings: &Settings) -> Result<(), BadOverride> {
    let shortest = optional("SHORTEST_RECONCILE_AFTER_SECONDS").and_then(|text| text.parse().ok());
    let shortest: u32 = shortest.unwrap_or(STEP_LIVES_FOR + 5);
    if settings.reconcile_after_seconds >= shortest {
        return Ok(());
    }
    Err(BadOverride {
        scope: scope.to_owned(),
        field: "reconcile_after_seconds".to_owned(),
        problem: format!(
            "{} is too short: a step may live for {STEP_LIVES_FOR} s; expected {shortest} to 3600",
            settings.reconcile_after_seconds
        ),
    })
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
    fn the_reconciler_waits_for_longer_than_a_step_lives() {
        let with = |reconcile_after_seconds| Settings { reconcile_after_seconds, ..Settings::default() };
        let refused = outlives_a_step("global", &with(64)).unwrap_err();
        assert_eq!((refused.scope.as_str(), refused.field.as_str()), ("global", "reconcile_after_seconds"));
        assert_eq!(refused.problem, "64 is too short: a step may live for 60 s; expected 65 to 3600");
        assert_eq!(outlives_a_step("global", &with(65)), Ok(()));
        assert_eq!(outlives_a_step("global", &Settings::default()), Ok(()));
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
