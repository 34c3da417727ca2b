//! The row of the Groups table that says where the next sweep begins.

use jiff::Timestamp;
use spot_cloud::error::{CallError, failed};
use spot_cloud::scopes::AccountRegion;
use spot_cloud::tables::row::{Row, text, text_in};

use super::{GroupsTable, PLACED, UPDATE, expiry};

/// The key of the row. No ARN and no place is spelled so.
pub(super) const TURN: &str = "turn";

impl GroupsTable {
    /// Notes the place after which the next sweep begins.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn note_turn(&self, begin_after: &AccountRegion, now: Timestamp) -> Result<(), CallError> {
        let update = self
            .update(TURN, &format!("SET {PLACED}"))
            .expression_attribute_names("#region", "region")
            .expression_attribute_values(":account", text(&begin_after.account_id))
            .expression_attribute_values(":region", text(&begin_after.region))
            .expression_attribute_values(":expires", expiry(now));
        update.send().await.map_err(failed(UPDATE)).map(drop)
    }
}

/// Reads the row. If it can't be read, the sweep begins with the first place.
pub(super) fn place(row: &Row) -> Option<AccountRegion> {
    let account_id = text_in(row, "account_id")?.parse().ok()?;
    let region = text_in(row, "region")?.parse().ok()?;
    Some(AccountRegion { account_id, region })
}

#[cfg(test)]
mod tests {
    use spot_cloud::tables::row::number;

    use super::*;

    #[test]
    fn a_row_that_cannot_be_read_is_as_good_as_none() {
        let row =
            |account, region| Row::from([("account_id".to_owned(), account), ("region".to_owned(), region)]);
        let read = place(&row(text("123456789012"), text("eu-west-1"))).unwrap();
        assert_eq!(read.to_string(), "account 123456789012, eu-west-1");
        for bad in [
            row(text("12"), text("eu-west-1")),
            row(text("123456789012"), text("Narnia")),
            row(number(&1), text("eu-west-1")),
            Row::new(),
        ] {
            assert_eq!(place(&bad), None, "{bad:?}");
        }
    }
}
