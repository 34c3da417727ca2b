//! Batches of rows: DynamoDB may leave some of a batch unwritten, and says which.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};

use crate::error::{CallError, Kind, failed};

const WRITE: &str = "dynamodb:BatchWriteItem";
/// DynamoDB's limit for one `BatchWriteItem`.
pub const WRITE_BATCH: usize = 25;
/// The pause after the first attempt; it doubles.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Puts at most [`WRITE_BATCH`] rows into the table. The rows that DynamoDB leaves unprocessed are sent again, alone.
///
/// # Errors
/// The call fails, or rows are still unprocessed after so many attempts. Some rows may be written.
pub async fn put(
    dynamodb: &aws_sdk_dynamodb::Client,
    table: &str,
    rows: impl IntoIterator<Item = HashMap<String, AttributeValue>>,
    attempts: u32,
) -> Result<(), CallError> {
    let put = |row| {
        let put = PutRequest::builder().set_item(Some(row)).build();
        put.map(|put| WriteRequest::builder().put_request(put).build())
    };
    let requests = rows.into_iter().map(put).collect::<Result<Vec<_>, _>>();
    let mut requests = requests.map_err(|e| CallError::malformed(WRITE, e.to_string()))?;
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
    let message =
        format!("{} rows are still unprocessed after {attempts} attempts, table {table}", requests.len());
    Err(CallError { kind: Kind::Retry, code: "Throttled".to_owned(), ..CallError::malformed(WRITE, message) })
}
