//! A row of the Swaps table that an execution holds, read.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use spot_domain::swap::journal::{Journal, SwapId};
use spot_domain::swap::recovery::End;
use spot_domain::words::Cause;

use super::SwapsError;
use super::outcome::{OUTCOME, Outcome};
use crate::tables::leases::Lease;
use crate::tables::row::{Row, text_in};

/// A lease and the journal under it.
#[derive(Debug, Clone)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    /// The journal of the swap in progress, if there is one.
    pub journal: Option<Journal>,
    /// The swap that a group's Restore, a rollback or the reconciler closed last under a lease on this target.
    pub closed: Option<Closed>,
    /// What the end of that swap has to tell, if a recovery of this lease's execution has ended it. It stays until the lease
    /// ends, the next swap ends, or [`Swaps::told`](super::Swaps::told) is called.
    pub outcome: Option<Outcome>,
}

/// A swap that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub swap_id: SwapId,
    pub end: End,
}

/// Parses a row; `None` if no execution holds it.
///
/// # Errors
/// [`SwapsError::Malformed`] names the row and the attribute.
pub fn parse(row: &Row) -> Result<Option<Held>, SwapsError> {
    if !row.contains_key("lease_owner") {
        return Ok(None);
    }
    let key = text_in(row, "target").cloned().unwrap_or_default();
    let held = parse_held(row).and_then(|held| match held.lease.key() {
        // Else an error or a person would go to the row of a swap that has nothing to do with this one.
        leased if leased != key => {
            Err(format!("leased: it names {leased}, and the row's key is another").into())
        }
        _ => Ok(held),
    });
    held.map(Some).map_err(|problem| SwapsError::Malformed { target: key, problem })
}

fn parse_held(row: &Row) -> Result<Held, Cause> {
    let lease = Lease {
        on: json(row, "leased")?.ok_or("leased is missing")?,
        account_id: field(row, "account_id")?,
        region: field(row, "region")?,
        owner: field(row, "lease_owner")?,
        since: row
            .get("lease_since")
            .and_then(|v| v.as_n().ok()?.parse().ok())
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .ok_or("lease_since is missing or malformed")?,
    };
    // An older release writes the journal alone: the write conditions ask the attribute, and so does a reader.
    let revision = row.get("revision").map(revision_of).transpose()?.unwrap_or_default();
    let journal = json(row, "journal")?.map(|journal| Journal { revision, ..journal });
    // The write that clears one clears both. Without its journal, a swap would count as none, and its lease as free.
    if journal.is_none() && row.contains_key("stage") {
        return Err("journal is missing, and stage tells of a swap".into());
    }
    if let Some(problem) = journal.as_ref().and_then(|journal| lease.contradicts(journal)) {
        return Err(format!("journal: {problem}").into());
    }
    // How an earlier swap ended locks no row.
    let closed = closed(row).unwrap_or_default();
    let outcome = closed.as_ref().and_then(|closed| outcome(row, &lease, closed));
    Ok(Held { lease, journal, closed, outcome })
}

pub(super) fn closed(row: &Row) -> Result<Option<Closed>, Cause> {
    if !row.contains_key("closed_swap") {
        return Ok(None);
    }
    Ok(Some(Closed { swap_id: field(row, "closed_swap")?, end: field(row, "closed_as")? }))
}

fn revision_of(value: &AttributeValue) -> Result<u64, &'static str> {
    value.as_n().ok().and_then(|n| n.parse().ok()).ok_or("revision is no whole number; delete the attribute")
}

pub(super) fn field<T>(row: &Row, name: &str) -> Result<T, Cause>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = text_in(row, name).ok_or_else(|| format!("{name} is missing or no text"))?;
    text.parse().map_err(|e: T::Err| Cause::in_words(format!("{name}: {e}"), e))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row, name: &str) -> Result<Option<T>, Cause> {
    let Some(value) = row.get(name) else { return Ok(None) };
    let text = value.as_s().map_err(|_| format!("{name} is no text"))?;
    serde_json::from_str(text).map(Some).map_err(|e| Cause::in_words(format!("{name}: {e}"), e))
}

/// Returns the outcome of the swap that was closed last. One that can't be read, or that another run or an older release has
/// left, locks no row.
fn outcome(row: &Row, lease: &Lease, closed: &Closed) -> Option<Outcome> {
    let outcome: Outcome = match json(row, OUTCOME) {
        Ok(outcome) => outcome?,
        Err(problem) => {
            tracing::warn!(on = %lease.on, "what its last swap has to tell is lost: {problem}");
            return None;
        }
    };
    let is_ours = outcome.by.execution() == lease.owner.execution()
        && outcome.journal.swap_id == closed.swap_id
        && outcome.ended.end == closed.end
        && lease.contradicts(&outcome.journal).is_none();
    is_ours.then_some(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::row::{number, text};

    /// The row of a lease on an instance, with these attributes besides.
    fn row(more: &[(&str, &str)]) -> Row {
        let texts = [
            ("target", "123456789012#us-east-1#i-0123456789abcdef0"),
            ("leased", r#"{"Instance": "i-0123456789abcdef0"}"#),
            ("account_id", "123456789012"),
            ("region", "us-east-1"),
            ("lease_owner", "arn:aws:states:us-east-1:123456789012:execution:swap:run-1"),
        ];
        let texts = texts.iter().chain(more).map(|(name, value)| ((*name).to_owned(), text(*value)));
        texts.chain([("lease_since".to_owned(), number(&1_767_603_600_000_i64))]).collect()
    }

    #[test]
    fn a_stage_without_its_journal_is_no_free_lease() {
        assert!(parse(&row(&[])).unwrap().is_some_and(|held| held.journal.is_none()));
        let error = parse(&row(&[("stage", "Attaching")])).unwrap_err().to_string();
        assert!(error.contains("journal is missing"), "{error}");
    }
}
