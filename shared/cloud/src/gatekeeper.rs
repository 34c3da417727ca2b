//! The gate that every Spot launch passes: asks the SpotPoolRisk table, in a member the hub's, too,
//! and makes the proofs that the [`crate::launcher`] needs. It fails closed: whatever it can't read
//! is no launch.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use jiff::Timestamp;
use spot_domain::Pool;

use crate::clients::{BadEnvironment, Stack, variable};
use crate::error::{CallError, failed};
use crate::hub::Hub;
use crate::risk_table::{self, MalformedRow};

/// How long the stack's own table may take for all the answers together, in each of two tries. A slow gate is
/// a closed gate.
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
    /// A table was too slow.
    #[error("{table} did not answer within {} s, asked twice", after.as_secs())]
    TooSlow {
        /// The stack's or the hub's.
        table: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// A table could not be read.
    #[error("{table} can't be read: {error}")]
    Call {
        /// The stack's or the hub's.
        table: &'static str,
        /// What it said.
        #[source]
        error: crate::CallError,
    },
    /// The answer says nothing of the pool.
    #[error("the gate gave no answer")]
    NoAnswer,
    /// The stack is set up wrong.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

/// Asks the risk table.
#[derive(Debug, Clone)]
pub struct Gatekeeper {
    own: Source,
    hub: Option<Source>,
}

impl Gatekeeper {
    /// The gate of this stack, and of its hub where it is a member of one.
    ///
    /// # Errors
    /// A variable that the template sets is missing from the environment, or malformed.
    pub async fn new(stack: &Stack) -> Result<Self, BadEnvironment> {
        let own = Self::over(stack.dynamodb.clone(), variable::<String>("SPOT_POOL_RISK_TABLE")?);
        let hub = Hub::from_environment(stack.config()).await?;
        Ok(hub.into_iter().fold(own, |own, hub| own.and_hub(hub.dynamodb, hub.table)))
    }

    /// The gate over one table.
    #[must_use]
    pub fn over(dynamodb: aws_sdk_dynamodb::Client, table: impl Into<String>) -> Self {
        let own = Source { dynamodb, table: table.into(), name: "the risk table", deadline: DEADLINE };
        Self { own, hub: None }
    }

    /// The same gate, which lets pass only what a hub's table clears, too.
    #[must_use]
    pub fn and_hub(self, dynamodb: aws_sdk_dynamodb::Client, table: impl Into<String>) -> Self {
        let name = "the hub's risk table";
        let hub = Source { dynamodb, table: table.into(), name, deadline: Hub::DEADLINE };
        Self { hub: Some(hub), ..self }
    }

    /// Asks about all `pools` at once: one strongly consistent read for every 100 of them, what the
    /// table left unprocessed asked again, all within one second (the hub's three), and once more if that
    /// passes. The answers are in the order of the question.
    ///
    /// # Errors
    /// A table did not answer in full: nothing is cleared.
    pub async fn ask(&self, pools: &[Pool]) -> Result<Vec<Verdict>, GateClosed> {
        let keys: Vec<String> =
            pools.iter().map(Pool::to_string).collect::<BTreeSet<_>>().into_iter().collect();
        let hub = async {
            match &self.hub {
                Some(hub) => hub.rows(&keys).await.map(Some),
                None => Ok(None),
            }
        };
        let (own, hub) = tokio::try_join!(self.own.rows(&keys), hub)?;
        let tables: Vec<Rows> = [Some(own), hub].into_iter().flatten().collect();
        let now = Timestamp::now();
        Ok(pools.iter().map(|pool| verdict(pool, &tables, now)).collect())
    }

    /// Asks about one pool.
    ///
    /// # Errors
    /// As [`Gatekeeper::ask`].
    pub async fn ask_one(&self, pool: &Pool) -> Result<Verdict, GateClosed> {
        let mut verdicts = self.ask(std::slice::from_ref(pool)).await?;
        verdicts.pop().ok_or(GateClosed::NoAnswer)
    }
}

/// A table of poisoned pools, and how long it may take for all the answers together.
#[derive(Debug, Clone)]
struct Source {
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
    name: &'static str,
    deadline: Duration,
}

impl Source {
    async fn rows(&self, keys: &[String]) -> Result<Rows, GateClosed> {
        let (table, after) = (self.name, self.deadline);
        // A small function's first handshake with a table may take most of the time: the second try has it.
        let answer = match tokio::time::timeout(after, self.read(keys)).await {
            Ok(answer) => Ok(answer),
            Err(_) => tokio::time::timeout(after, self.read(keys)).await,
        };
        answer
            .map_err(|_| GateClosed::TooSlow { table, after })?
            .map_err(|error| GateClosed::Call { table, error })
    }

    async fn read(&self, keys: &[String]) -> Result<Rows, CallError> {
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

    async fn read_batch(&self, keys: Vec<Row>) -> Result<BatchAnswer, CallError> {
        let call = "dynamodb:BatchGetItem";
        let request = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(true)
            .build()
            .map_err(|e| CallError::malformed(call, e.to_string()))?;
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
            .ok_or_else(|| CallError::malformed(call, "the answer does not mention the risk table"))?;
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

/// The worst that any table says of the pool.
fn verdict(pool: &Pool, tables: &[Rows], now: Timestamp) -> Verdict {
    let key = pool.to_string();
    let mut poisoned_until = None;
    for row in tables.iter().filter_map(|rows| rows.get(&key)) {
        match risk_table::parse(&key, row) {
            Err(malformed) => return Verdict::Unreadable(malformed),
            Ok(poison) if poison.is_active(now) => {
                poisoned_until = poisoned_until.max(Some(poison.expires_at));
            }
            Ok(_) => {}
        }
    }
    match poisoned_until {
        Some(until) => Verdict::PoisonedUntil(until),
        None => Verdict::Cleared(ClearedPool { pool: pool.clone(), cleared_at: Instant::now() }),
    }
}
