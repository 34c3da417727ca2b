//! The gate that every Spot launch passes: asks the SpotPoolRisk table and makes the proofs that
//! the [`crate::launcher`] needs. It fails closed: whatever it can't read is no launch.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use jiff::Timestamp;
use spot_domain::Pool;

use crate::clients::{BadEnvironment, Stack, variable};
use crate::error::failed;
use crate::risk_table::{self, MalformedRow};

/// How long the table may take for all the answers together. A slow gate is a closed gate.
const DEADLINE: Duration = Duration::from_secs(1);
/// DynamoDB's limit for one `BatchGetItem`.
const BATCH: usize = 100;
/// A proof older than this is no proof: the pool may have been poisoned since.
const PROOF_LASTS: Duration = Duration::from_secs(15);

/// Proof that the risk table was asked about a pool a moment ago, and knew no active poison.
///
/// Only [`Gatekeeper::ask`] makes one, and it can't be copied or kept: a launch uses it up.
///
/// ```compile_fail
/// use spot_cloud::gatekeeper::ClearedPool;
/// let pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
/// let forged = ClearedPool { pool, cleared_at: std::time::Instant::now() };
/// ```
///
/// ```compile_fail
/// # async fn launch(launcher: &spot_cloud::launcher::Launcher, order: &spot_cloud::launcher::Order) {
/// let pool: spot_domain::Pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
/// launcher.launch(pool, order, "token").await; // a bare pool opens nothing
/// # }
/// ```
///
/// ```compile_fail
/// # async fn launch(launcher: &spot_cloud::launcher::Launcher, order: &spot_cloud::launcher::Order,
/// #                 cleared: spot_cloud::gatekeeper::ClearedPool) {
/// launcher.launch(cleared, order, "token").await;
/// launcher.launch(cleared, order, "token").await; // one proof, one launch
/// # }
/// ```
///
/// The same code, with a proof for its one launch, compiles:
///
/// ```
/// # async fn launch(launcher: &spot_cloud::launcher::Launcher, order: &spot_cloud::launcher::Order,
/// #                 cleared: spot_cloud::gatekeeper::ClearedPool) {
/// let _ = launcher.launch(cleared, order, "token").await;
/// # }
/// ```
#[derive(Debug)]
pub struct ClearedPool {
    pool: Pool,
    cleared_at: Instant,
}

impl ClearedPool {
    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether the proof still proves something.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.cleared_at.elapsed() < PROOF_LASTS
    }
}

/// The gate's answer for one pool.
#[derive(Debug)]
pub enum Verdict {
    /// Go.
    Cleared(ClearedPool),
    /// Not before this moment.
    PoisonedUntil(Timestamp),
    /// The pool's row can't be read: no launch until a person has mended it.
    Unreadable(MalformedRow),
}

/// The gate did not answer: no launch at all.
#[derive(Debug, thiserror::Error)]
pub enum GateClosed {
    /// The table was too slow.
    #[error("the risk table did not answer within {} s", DEADLINE.as_secs())]
    TooSlow,
    /// The table could not be read.
    #[error("the risk table can't be read: {0}")]
    Call(#[from] crate::CallError),
    /// The stack is set up wrong.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

/// Asks the risk table.
#[derive(Debug, Clone)]
pub struct Gatekeeper {
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
}

impl Gatekeeper {
    /// The gate of this stack.
    ///
    /// # Errors
    /// The table's name is missing from the environment.
    pub fn new(stack: &Stack) -> Result<Self, BadEnvironment> {
        Ok(Self { dynamodb: stack.dynamodb.clone(), table: variable("SPOT_POOL_RISK_TABLE")? })
    }

    /// The gate over one table.
    #[must_use]
    pub fn over(dynamodb: aws_sdk_dynamodb::Client, table: impl Into<String>) -> Self {
        Self { dynamodb, table: table.into() }
    }

    /// Asks about all `pools` at once: one strongly consistent read for every 100 of them, what the
    /// table left unprocessed asked again, all within one second. The answers are in the order of
    /// the question.
    ///
    /// # Errors
    /// The table did not answer in full: nothing is cleared.
    pub async fn ask(&self, pools: &[Pool]) -> Result<Vec<Verdict>, GateClosed> {
        let keys: Vec<String> =
            pools.iter().map(Pool::to_string).collect::<BTreeSet<_>>().into_iter().collect();
        let rows =
            tokio::time::timeout(DEADLINE, self.read(&keys)).await.map_err(|_| GateClosed::TooSlow)??;
        let now = Timestamp::now();
        Ok(pools.iter().map(|pool| verdict(pool, &rows, now)).collect())
    }

    async fn read(&self, keys: &[String]) -> Result<Rows, GateClosed> {
        let mut rows = Rows::new();
        for batch in keys.chunks(BATCH) {
            let mut wanted: Vec<Row> = batch
                .iter()
                .map(|key| [(risk_table::POOL.to_owned(), AttributeValue::S(key.clone()))].into())
                .collect();
            while !wanted.is_empty() {
                let answer = self.read_batch(wanted).await?;
                for row in answer.found {
                    if let Some(key) = row.get(risk_table::POOL).and_then(|v| v.as_s().ok()) {
                        rows.insert(key.clone(), row);
                    }
                }
                wanted = answer.unprocessed;
                if !wanted.is_empty() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Ok(rows)
    }

    async fn read_batch(&self, keys: Vec<Row>) -> Result<BatchAnswer, GateClosed> {
        let call = "dynamodb:BatchGetItem";
        let request = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(true)
            .build()
            .map_err(|e| crate::CallError::malformed(call, e.to_string()))?;
        let answer = self
            .dynamodb
            .batch_get_item()
            .request_items(&self.table, request)
            .send()
            .await
            .map_err(failed(call))?;
        // An answer that lacks our table is not "no poison".
        let found = answer
            .responses
            .and_then(|mut tables| tables.remove(&self.table))
            .or_else(|| answer.unprocessed_keys.as_ref().filter(|k| !k.is_empty()).map(|_| Vec::new()))
            .ok_or_else(|| crate::CallError::malformed(call, "the answer does not mention the risk table"))?;
        let unprocessed = answer
            .unprocessed_keys
            .and_then(|mut tables| tables.remove(&self.table))
            .map(|k| k.keys)
            .unwrap_or_default();
        Ok(BatchAnswer { found, unprocessed })
    }
}

type Row = HashMap<String, AttributeValue>;
type Rows = HashMap<String, Row>;

struct BatchAnswer {
    found: Vec<Row>,
    unprocessed: Vec<Row>,
}

fn verdict(pool: &Pool, rows: &Rows, now: Timestamp) -> Verdict {
    let key = pool.to_string();
    match rows.get(&key).map(|row| risk_table::parse(&key, row)) {
        Some(Err(malformed)) => Verdict::Unreadable(malformed),
        Some(Ok(poison)) if poison.is_active(now) => Verdict::PoisonedUntil(poison.expires_at),
        Some(Ok(_)) | None => {
            Verdict::Cleared(ClearedPool { pool: pool.clone(), cleared_at: Instant::now() })
        }
    }
}
