//! What the three databases say at one moment, as far as the comparison looks at it.
//!
//! The queries are checked when they run, not when they are compiled: the compiler knows one database
//! a crate, and these are of three.

use std::time::Duration;

use rust_decimal::Decimal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, FromRow, PgConnection};
use uuid::Uuid;

use crate::stack::DatabaseUrls;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The longest of one query. A database that a drill froze must not freeze the drill.
const STATEMENT_TIMEOUT_MS: &str = "30000";
/// Rows of what waits or was put aside; more say nothing new.
const LEFT_MAX: i64 = 200;

/// Everything that is compared with the broker's truth.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The order server's orders.
    pub orders: Vec<CoreOrder>,
    /// Its fill ledger.
    pub executions: Vec<CoreExecution>,
    /// What each order moved to and from brokers, by its journal.
    pub cleared: Vec<Cleared>,
    /// The gateway's requests with what their attempts and questions come to.
    pub requests: Vec<Request>,
    /// The receiver's executions.
    pub facts: Vec<ReceiverFact>,
    /// How far each log was applied.
    pub positions: Vec<Position>,
    /// What waits, or was put aside for a person, anywhere.
    pub left: Vec<Left>,
}

/// One order of the order server.
#[derive(Clone, Debug, FromRow)]
pub struct CoreOrder {
    /// Our id.
    pub id: Uuid,
    /// What is traded.
    pub symbol: String,
    /// `buy` or `sell`.
    pub side: String,
    /// The status word of the database.
    pub status: String,
    /// Whether it is at its end.
    pub closed: bool,
    /// Shares that count.
    pub net_quantity: Decimal,
    /// Their money.
    pub net_notional: Decimal,
    /// Cash that it holds.
    pub hold_cash: Decimal,
    /// Shares that it holds.
    pub hold_shares: Decimal,
}

/// One row of the fill ledger.
#[derive(Clone, Debug, FromRow)]
pub struct CoreExecution {
    /// Our event's id.
    pub event_id: Uuid,
    /// Of which order.
    pub order_id: Uuid,
    /// `fill`, `correct` or `bust`.
    pub kind: String,
    /// The broker's id.
    pub execution_id: String,
    /// What it takes back.
    pub previous_execution_id: Option<String>,
    /// None of a bust.
    pub quantity: Option<Decimal>,
    /// None of a bust.
    pub price: Option<Decimal>,
}

/// What an order gave to brokers of an asset, by the journal; negative is what it got.
#[derive(Clone, Debug, FromRow)]
pub struct Cleared {
    /// Of which order.
    pub order_id: Uuid,
    /// A symbol, or the currency.
    pub asset: String,
    /// How much.
    pub amount: Decimal,
}

/// One request of the gateway.
#[derive(Clone, Debug, FromRow)]
pub struct Request {
    /// Our order.
    pub order_id: Uuid,
    /// The state's word.
    pub state: String,
    /// The broker's order.
    pub broker_order_id: Option<String>,
    /// What differs, where the broker has another order under our key.
    pub contradiction: Option<String>,
    /// How many attempts there are.
    pub attempts: i64,
    /// How many have no outcome: whoever made them died in the middle.
    pub attempts_open: i64,
    /// How many may have reached the broker.
    pub attempts_arrived: i64,
    /// How many different keys they have.
    pub keys: i64,
    /// How many different contents they have.
    pub contents: i64,
    /// Whether the broker was asked after the last attempt that may have arrived, and said that it has nothing.
    pub none_since: bool,
    /// Whether any event of the broker spoke of it.
    pub heard_of: bool,
    /// How many persons approved a settlement.
    pub persons: i64,
}

/// One execution of the receiver.
#[derive(Clone, Debug, FromRow)]
pub struct ReceiverFact {
    /// Our event's id, the same in the order server's ledger.
    pub event_id: Uuid,
    /// Our order; none of an orphan.
    pub order_id: Option<Uuid>,
    /// The broker's order.
    pub broker_order_id: String,
}

/// How far a process applied one partition of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Who applies.
    pub consumer: &'static str,
    /// Whose log.
    pub producer: &'static str,
    /// Which partition.
    pub partition: i16,
    /// Up to here.
    pub applied: i64,
    /// The log's end.
    pub head: i64,
}

/// Something that waits, or was put aside for a person.
#[derive(Clone, Debug, FromRow)]
pub struct Left {
    /// Where.
    pub place: String,
    /// Of which of our orders, if that is known.
    pub order_id: Option<Uuid>,
    /// Of which broker order, if that is known.
    pub broker_order_id: Option<String>,
    /// For people.
    pub detail: String,
}

const CORE_ORDERS: &str = "select id, symbol, side, status, closed, net_quantity, net_notional, hold_cash, hold_shares \
     from orders order by id";

const CORE_EXECUTIONS: &str = "select event_id, order_id, kind, execution_id, previous_execution_id, quantity, price \
     from executions order by event_id";

const CLEARED: &str = "select order_id, asset, sum(case when credit = 'clearing' then amount else -amount end) as amount \
     from journal_lines where order_id is not null and 'clearing' in (debit, credit) group by order_id, asset";

/// An attempt without an outcome may have arrived.
const REQUESTS: &str = "
    select r.order_id, r.state, r.broker_order_id, r.contradiction,
           coalesce(a.attempts, 0) as attempts, coalesce(a.open, 0) as attempts_open,
           coalesce(a.arrived, 0) as attempts_arrived, coalesce(a.keys, 0) as keys, coalesce(a.contents, 0) as contents,
           exists (select 1 from lookups l where l.order_id = r.order_id and l.outcome = 'none'
                   and l.began_at >= a.last_arrived_at) as none_since,
           exists (select 1 from evidence e where e.order_id = r.order_id) as heard_of,
           (select count(distinct s.person) from settlement_approvals s where s.order_id = r.order_id) as persons
    from requests r left join (
        select order_id, count(*) as attempts, count(*) filter (where outcome is null) as open,
               count(*) filter (where outcome is null or outcome in ('accepted', 'duplicate', 'unknown')) as arrived,
               max(claimed_at) filter (where outcome is null or outcome in ('accepted', 'duplicate', 'unknown'))
                   as last_arrived_at,
               count(distinct broker_key) as keys, count(distinct bytes_hash) as contents
        from attempts group by order_id
    ) a using (order_id)
    order by r.order_id";

const RECEIVER_FACTS: &str = "select event_id, order_id, broker_order_id from broker_events where kind <> 'state'";

const CORE_LEFT: &str = "
    (select 'deferred at the order server' as place, order_id, null as broker_order_id,
            format('%s/%s/%s: %s %s', producer, partition, seq, reason, detail) as detail
     from deferred where reason <> 'orphan' limit $1)
    union all
    (select 'orphans at the order server', null, broker_order_id, event_id::text from orphans limit $1)";

const GATEWAY_LEFT: &str = "
    select 'deferred at the gateway' as place, order_id, null as broker_order_id,
           format('%s/%s/%s: %s %s', producer, partition, seq, reason, detail) as detail
    from deferred where reason <> 'orphan' limit $1";

const RECEIVER_LEFT: &str = "
    (select 'parked at the receiver' as place, null::uuid as order_id, null as broker_order_id,
            format('%s: %s', reason, detail) as detail
     from parked where settled_at is null limit $1)
    union all
    (select 'suspect at the receiver', null, broker_order_id, format('%s: %s, not %s', reason, seen, known)
     from suspects where closed_at is null limit $1)";

/// Reads all of it. Each database is read as of one moment, the three one after the other, so the system has to be at
/// rest for a comparison to mean anything.
///
/// # Errors
/// What could not be read and why, for people.
pub async fn read(urls: &DatabaseUrls) -> Result<Records, String> {
    let mut core = Database::open("order-core", &urls.order_core).await?;
    let mut gateway = Database::open("broker-gateway", &urls.broker_gateway).await?;
    let mut receiver = Database::open("fill-receiver", &urls.fill_receiver).await?;
    let mut left = core.left(CORE_LEFT).await?;
    left.extend(gateway.left(GATEWAY_LEFT).await?);
    left.extend(receiver.left(RECEIVER_LEFT).await?);
    let heads = [
        (core.name, core.heads().await?),
        (gateway.name, gateway.heads().await?),
        (receiver.name, receiver.heads().await?),
    ];
    let mut positions = Vec::new();
    for consumer in [&mut core, &mut gateway] {
        let applied = consumer.applied().await?;
        for (producer, heads) in heads.iter().filter(|(producer, _)| *producer != consumer.name) {
            for (partition, head) in heads {
                let at = applied.iter().find(|(of, place, _)| of == producer && place == partition);
                let applied = at.map_or(0, |(_, _, seq)| *seq);
                let (consumer, producer, partition, head) = (consumer.name, *producer, *partition, *head);
                positions.push(Position { consumer, producer, partition, applied, head });
            }
        }
    }
    Ok(Records {
        orders: core.rows(CORE_ORDERS).await?,
        executions: core.rows(CORE_EXECUTIONS).await?,
        cleared: core.rows(CLEARED).await?,
        requests: gateway.rows(REQUESTS).await?,
        facts: receiver.rows(RECEIVER_FACTS).await?,
        positions,
        left,
    })
}

struct Database {
    name: &'static str,
    conn: PgConnection,
}

impl Database {
    async fn open(name: &'static str, url: &str) -> Result<Self, String> {
        let failed = |why: String| format!("the database {name}: {why}");
        let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| failed(error.to_string()))?;
        let options = options.options([("statement_timeout", STATEMENT_TIMEOUT_MS)]).disable_statement_logging();
        let connecting = tokio::time::timeout(CONNECT_LIMIT, options.connect()).await;
        let mut conn =
            connecting.map_err(|_| failed("no answer".to_owned()))?.map_err(|error| failed(error.to_string()))?;
        let snapshot = sqlx::query("begin transaction isolation level repeatable read, read only");
        snapshot.execute(&mut conn).await.map_err(|error| failed(error.to_string()))?;
        Ok(Self { name, conn })
    }

    fn failed(&self) -> impl Fn(sqlx::Error) -> String + use<> {
        let name = self.name;
        move |error| format!("the database {name}: {error}")
    }

    async fn rows<T>(&mut self, query: &'static str) -> Result<Vec<T>, String>
    where
        T: for<'r> FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        let failed = self.failed();
        sqlx::query_as(query).fetch_all(&mut self.conn).await.map_err(failed)
    }

    async fn left(&mut self, query: &'static str) -> Result<Vec<Left>, String> {
        let failed = self.failed();
        sqlx::query_as(query).bind(LEFT_MAX).fetch_all(&mut self.conn).await.map_err(failed)
    }

    async fn heads(&mut self) -> Result<Vec<(i16, i64)>, String> {
        self.rows("select partition, seq from event_heads order by partition").await
    }

    async fn applied(&mut self) -> Result<Vec<(String, i16, i64)>, String> {
        self.rows("select producer, partition, seq from applied").await
    }
}
