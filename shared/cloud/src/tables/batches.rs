//! Batches of rows: DynamoDB may leave some of a batch unread or unwritten, and says which.

use std::time::Duration;

use aws_sdk_dynamodb::types::{KeysAndAttributes, PutRequest, WriteRequest};

use crate::error::{CallError, Kind, failed, unreadable};
use crate::tables::row::{Row, names};

const READ: &str = "dynamodb:BatchGetItem";
const WRITE: &str = "dynamodb:BatchWriteItem";
/// DynamoDB's limit for one `BatchGetItem`.
pub const READ_BATCH: usize = 100;
/// DynamoDB's limit for one `BatchWriteItem`.
pub const WRITE_BATCH: usize = 25;
/// The pause after the first attempt; it doubles.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The repetition of a read for the rows that DynamoDB leaves unprocessed.
#[derive(Debug, Clone, Copy)]
pub enum Repeat {
    /// The read is repeated after a pause that doubles, up to so many attempts in all.
    Attempts(u32),
    /// The read is repeated at an even pace. The caller's own deadline ends it.
    UntilDeadline,
}

/// Reads at most [`READ_BATCH`] rows, strongly consistent: these `attributes` of them, or all if none is named. Rows that
/// don't exist are absent from the answer. The keys that DynamoDB leaves unprocessed are sent again, alone.
///
/// # Errors
/// The call fails, its answer does not mention the table, or rows are still unprocessed after so many attempts.
pub async fn get<const N: usize>(
    dynamodb: &aws_sdk_dynamodb::Client,
    table: &str,
    mut keys: Vec<Row>,
    attributes: [&str; N],
    repeat: Repeat,
) -> Result<Vec<Row>, CallError> {
    let (mut found, mut pause, mut attempt) = (Vec::with_capacity(keys.len()), FIRST_PAUSE, 1);
    loop {
        let mut request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true);
        if !attributes.is_empty() {
            let named = attributes.map(|name| format!("#{name}")).join(", ");
            request =
                request.projection_expression(named).set_expression_attribute_names(Some(names(attributes)));
        }
        let request = request.build().map_err(unreadable(READ))?;
        let request = dynamodb.batch_get_item().request_items(table, request);
        let answer = request.send().await.map_err(failed(READ))?;
        let left = answer.unprocessed_keys.and_then(|mut tables| tables.remove(table));
        keys = left.map(|left| left.keys).unwrap_or_default();
        match answer.responses.and_then(|mut tables| tables.remove(table)) {
            Some(rows) => found.extend(rows),
            // An answer that lacks the table does not mean that there are no such rows.
            None if keys.is_empty() => {
                return Err(CallError::malformed(READ, format!("the answer does not mention table {table}")));
            }
            None => {}
        }
        if keys.is_empty() {
            return Ok(found);
        }
        match repeat {
            Repeat::Attempts(most) if attempt >= most => {
                return Err(unprocessed(READ, table, keys.len(), most));
            }
            Repeat::Attempts(_) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
                attempt += 1;
            }
            Repeat::UntilDeadline => tokio::time::sleep(FIRST_PAUSE).await,
        }
    }
}

/// Puts at most [`WRITE_BATCH`] rows into the table. The rows that DynamoDB leaves unprocessed are sent again, alone.
///
/// # Errors
/// The call fails, or rows are still unprocessed after so many attempts. Some rows may be written.
pub async fn put(
    dynamodb: &aws_sdk_dynamodb::Client,
    table: &str,
    rows: impl IntoIterator<Item = Row>,
    attempts: u32,
) -> Result<(), CallError> {
    let put = |row| {
        let put = PutRequest::builder().set_item(Some(row)).build();
        put.map(|put| WriteRequest::builder().put_request(put).build())
    };
    let requests = rows.into_iter().map(put).collect::<Result<Vec<_>, _>>();
    let mut requests = requests.map_err(unreadable(WRITE))?;
    let mut pause = FIRST_PAUSE;
    for _ in 0..attempts {
        let request = dynamodb.batch_write_item().request_items(table, requests);
        let answer = request.send().await.map_err(failed(WRITE))?;
        requests = answer.unprocessed_items.and_then(|mut tables| tables.remove(table)).unwrap_or_default();
        if requests.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Err(unprocessed(WRITE, table, requests.len(), attempts))
}

/// Returns the error of a batch of which DynamoDB has left rows unprocessed in every attempt.
#[must_use]
pub fn unprocessed(call: &'static str, table: &str, rows: usize, attempts: u32) -> CallError {
    let message = format!("{rows} rows are still unprocessed after {attempts} attempts, table {table}");
    CallError { kind: Kind::Retry, code: "Throttled".to_owned(), ..CallError::malformed(call, message) }
}
