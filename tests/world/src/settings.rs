//! The Settings table: its rows as a scene writes them, and what they say of an account, as docs/reference/settings.md has it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use spot_domain::settings::{Settings, Value as SettingValue};

use crate::scene::{REGION, SETTINGS};
use crate::tables::Tables;
use crate::tables::attribute::Attribute;

/// The scope that holds everywhere.
pub const GLOBAL: &str = "global";

/// Returns the scopes that hold for an account in the world's region, nearest first.
#[must_use]
pub fn scopes_of(account: &str) -> [String; 3] {
    [format!("account#{account}#{REGION}"), format!("account#{account}"), GLOBAL.to_owned()]
}

/// Returns the row of a scope.
#[must_use]
pub fn row_of(scope: &str, settings: &BTreeMap<String, Value>) -> Value {
    let mut row = json!({"scope": {"S": scope}});
    for (field, value) in settings {
        row[field] = match value {
            Value::Number(number) => json!({"N": number.to_string()}),
            Value::Bool(flag) => json!({"BOOL": flag}),
            text => json!({"S": text}),
        };
    }
    row
}

/// Returns the settings in force for an account. The nearest row that has a field decides; a value that the field can't have
/// leaves the default.
#[must_use]
pub fn in_force(tables: &Tables, account: &str) -> Settings {
    let mut nearest = BTreeMap::new();
    for scope in scopes_of(account) {
        let row = tables.item(SETTINGS, &scope, None).into_iter().flatten();
        for (field, value) in row.filter(|(field, _)| *field != "scope") {
            nearest.entry(field.clone()).or_insert_with(|| value_of(value));
        }
    }
    Settings::default().with_what_holds("the nearest rows", &nearest).0
}

fn value_of(attribute: &Attribute) -> SettingValue {
    match attribute {
        Attribute::N(number) => number.to_string().parse().map_or(SettingValue::Other, SettingValue::Number),
        Attribute::S(text) => SettingValue::Text(text.clone()),
        Attribute::Bool(flag) => SettingValue::Bool(*flag),
        _ => SettingValue::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Plan;
    use crate::scene::{ACCOUNT, LAB_ACCOUNT, Scene};

    #[test]
    fn the_nearest_row_that_has_a_field_decides() {
        let days = |days: u32| BTreeMap::from([("poison_days".to_owned(), json!(days))]);
        let [place, account, global] = scopes_of(ACCOUNT);
        let rows = [(&global, 1), (&account, 2), (&place, 3)];
        for (count, expected) in [(0, 15), (1, 1), (2, 2), (3, 3)] {
            let rows =
                rows.iter().take(count).map(|(scope, n)| (SETTINGS.to_owned(), row_of(scope, &days(*n))));
            let world = Scene { rows: rows.collect(), ..Scene::default() }.world(Plan::none());
            assert_eq!(in_force(&world.tables, ACCOUNT).poison_days, expected);
            assert_eq!(in_force(&world.tables, LAB_ACCOUNT).poison_days, if count == 0 { 15 } else { 1 });
        }
    }
}
