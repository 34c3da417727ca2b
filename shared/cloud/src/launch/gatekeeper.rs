//! The gate that every Spot launch passes. The gate asks the SpotPoolRisk table (in a member, the hub's, too)
//! and makes the proofs that the [`crate::launch::launcher`] needs. The gate fails closed: if it can't read an
//! answer, nothing is launched.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use spot_domain::Pool;
use spot_domain::clock;
use tokio::time::Instant;

use crate::clients::Stack;
use crate::environment::{BadEnvironment, variable};
use crate::error::CallError;
use crate::hub::Hub;
use crate::tables::batches::{self, READ_BATCH, Repeat};
use crate::tables::risk_pools::{self, MalformedRow};
use crate::tables::row::{self, Row};

/// The time in which the stack's own table must give all answers, in each of two tries. A slow gate is a
/// closed gate.
const DEADLINE: Duration = Duration::from_secs(1);
/// The age at which a proof expires: the pool may have been poisoned since.
const PROOF_LASTS: Duration = Duration::from_secs(15);

/// Proof that the risk table was asked about a pool a moment ago, and knew no active poison.
///
/// Only [`Gatekeeper::ask`] makes one, and it can't be copied or kept: a launch uses it up.
///
/// ```compile_fail
/// use spot_cloud::launch::gatekeeper::ClearedPool;
/// let pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
/// let forged = ClearedPool { pool, cleared_at: tokio::time::Instant::now() };
/// ```
///
/// ```compile_fail
/// # async fn launch(launcher: &spot_cloud::launch::launcher::Launcher, order: &spot_cloud::launch::launcher::Order) {
/// let pool: spot_domain::Pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
/// launcher.launch(pool, order, "token").await; // a bare pool opens nothing
/// # }
/// ```
///
/// ```compile_fail
/// # async fn launch(launcher: &spot_cloud::launch::launcher::Launcher, order: &spot_cloud::launch::launcher::Order,
/// #                 cleared: spot_cloud::launch::gatekeeper::ClearedPool) {
/// launcher.launch(cleared, order, "token").await;
/// launcher.launch(cleared, order, "token").await; // one proof, one launch
/// # }
/// ```
///
/// The same code, with a proof for its one launch, compiles:
///
/// ```
/// # async fn launch(launcher: &spot_cloud::launch::launcher::Launcher, order: &spot_cloud::launch::launcher::Order,
/// #                 cleared: spot_cloud::launch::gatekeeper::ClearedPool) {
/// let _ = launcher.launch(cleared, order, "token").await;
/// # }
/// ```
#[derive(Debug)]
pub struct ClearedPool {
    pool: Pool,
    cleared_at: Instant,
}

impl ClearedPool {
    /// Returns the pool.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns true while the proof has not expired.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.cleared_at.elapsed() < PROOF_LASTS
    }
}

/// The gate's answer for one pool.
#[derive(Debug)]
pub enum PoolVerdict {
    /// The pool is clear.
    Cleared(ClearedPool),
    /// The pool is poisoned until this moment.
    PoisonedUntil(Timestamp),
    /// The pool's row can't be read: nothing is launched into the pool until the row is corrected.
    Unreadable(MalformedRow),
}

/// The gate did not answer: nothing is launched at all.
#[derive(Debug, thiserror::Error)]
pub enum GateClosed {
    /// A table did not answer in time.
    #[error("{table} did not answer within {} s, asked twice", after.as_secs())]
    TooSlow {
        /// The stack's table or the hub's.
        table: &'static str,
        /// The time that the table had.
        after: Duration,
    },
    /// A table could not be read.
    #[error("{table} can't be read: {error}")]
    Call {
        /// The stack's table or the hub's.
        table: &'static str,
        /// The error of the call.
        #[source]
        error: crate::CallError,
    },
    /// The answer says nothing about the pool.
    #[error("the gate gave no answer")]
    NoAnswer,
    /// The stack's environment is incomplete or malformed.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

/// The gate, over the risk tables that it asks.
#[derive(Debug, Clone)]
pub struct Gatekeeper {
    own: PoisonTable,
    hub: Option<PoisonTable>,
}

impl Gatekeeper {
    /// Returns the gate of this stack, and of its hub if it is a member of one.
    ///
    /// # Errors
    /// A variable that the template sets is missing from the environment, or malformed.
    pub async fn new(stack: &Stack) -> Result<Self, BadEnvironment> {
        let own = Self::over(stack.dynamodb.clone(), variable::<String>("SPOT_POOL_RISK_TABLE")?);
        let hub = Hub::from_environment(stack.config()).await?;
        Ok(hub.into_iter().fold(own, |own, hub| own.and_hub(hub.dynamodb, hub.table)))
    }

    /// Returns a gate over one table.
    #[must_use]
    pub fn over(dynamodb: aws_sdk_dynamodb::Client, table: impl Into<String>) -> Self {
        let own = PoisonTable { dynamodb, table: table.into(), name: "the risk table", deadline: DEADLINE };
        Self { own, hub: None }
    }

    /// Returns the same gate, which clears only pools that a hub's table clears, too.
    #[must_use]
    pub fn and_hub(self, dynamodb: aws_sdk_dynamodb::Client, table: impl Into<String>) -> Self {
        let name = "the hub's risk table";
        let hub = PoisonTable { dynamodb, table: table.into(), name, deadline: Hub::DEADLINE };
        Self { hub: Some(hub), ..self }
    }

    /// Asks about all `pools` at once. The answers are in the order of the question.
    ///
    /// Each table gets one strongly consistent read for every 100 pools, and further ones for keys that it
    /// left unprocessed. All reads must end within one second (three for the hub's table). After a timeout,
    /// the gate asks once more.
    ///
    /// # Errors
    /// A table did not answer in full: nothing is cleared.
    pub async fn ask(&self, pools: &[Pool]) -> Result<Vec<PoolVerdict>, GateClosed> {
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
        let now = clock::now();
        Ok(pools.iter().map(|pool| verdict(pool, &tables, now)).collect())
    }

    /// Asks about one pool.
    ///
    /// # Errors
    /// The gate is closed, as in [`Gatekeeper::ask`].
    pub async fn ask_one(&self, pool: &Pool) -> Result<PoolVerdict, GateClosed> {
        let mut verdicts = self.ask(std::slice::from_ref(pool)).await?;
        verdicts.pop().ok_or(GateClosed::NoAnswer)
    }
}

/// A table of poisoned pools, and the time in which it must give all answers.
#[derive(Debug, Clone)]
struct PoisonTable {
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
    name: &'static str,
    deadline: Duration,
}

impl PoisonTable {
    async fn rows(&self, keys: &[String]) -> Result<Rows, GateClosed> {
        let (table, after) = (self.name, self.deadline);
        // A small function's first handshake with a table may take most of the time. The second try has all
        // of it.
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
        for batch in keys.chunks(READ_BATCH) {
            let wanted = batch.iter().map(|pool| row::key([(risk_pools::POOL, pool)])).collect();
            let found = batches::get(&self.dynamodb, &self.table, wanted, [], Repeat::UntilDeadline).await?;
            rows.extend(found.into_iter().filter_map(|row| {
                let pool = row::text_in(&row, risk_pools::POOL)?.clone();
                Some((pool, row))
            }));
        }
        Ok(rows)
    }
}

type Rows = HashMap<String, Row>;

/// Returns the worst verdict of any table on the pool.
fn verdict(pool: &Pool, tables: &[Rows], now: Timestamp) -> PoolVerdict {
    let key = pool.to_string();
    let mut poisoned_until = None;
    for row in tables.iter().filter_map(|rows| rows.get(&key)) {
        match risk_pools::parse(&key, row) {
            Err(malformed) => return PoolVerdict::Unreadable(malformed),
            Ok(poison) if poison.is_active(now) => {
                poisoned_until = poisoned_until.max(Some(poison.expires_at));
            }
            Ok(_) => {}
        }
    }
    match poisoned_until {
        Some(until) => PoolVerdict::PoisonedUntil(until),
        None => PoolVerdict::Cleared(ClearedPool { pool: pool.clone(), cleared_at: Instant::now() }),
    }
}
