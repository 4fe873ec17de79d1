//! The way of a command to its shard worker. A command is claimed by the worker or abandoned by the
//! caller, never both: whoever moves it out of `QUEUED` first wins.

use super::command::{CommandError, Commands, Deposit, HaltAccount, PlaceOrder, Placed, Withdrawal};
use super::facts::{FactSlice, SliceResult};
use super::store::StoreError;
use async_trait::async_trait;
use contracts::{AccountId, OrderId, Partition};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

const QUEUED: u8 = 0;
const CLAIMED: u8 = 1;
const ABANDONED: u8 = 2;

/// What a worker is asked.
#[derive(Debug, Clone)]
pub enum Command {
    /// Place an order.
    Place(PlaceOrder),
    /// Cancel an order.
    Cancel(AccountId, OrderId),
    /// Release a reserved order into its session.
    Release(AccountId, OrderId),
    /// Book a deposit.
    Deposit(Deposit),
    /// Book a withdrawal.
    Withdraw(Withdrawal),
    /// Halt an account, or lift that.
    Halt(HaltAccount),
}

impl Command {
    /// Whose account.
    #[must_use]
    pub const fn account_id(&self) -> AccountId {
        match self {
            Self::Place(command) => command.account_id,
            Self::Cancel(account, _) | Self::Release(account, _) => *account,
            Self::Deposit(command) | Self::Withdraw(Withdrawal(command)) => command.account_id,
            Self::Halt(command) => command.account_id,
        }
    }

    /// The reserved order that it releases, if it does.
    #[must_use]
    pub const fn released(&self) -> Option<OrderId> {
        match self {
            Self::Release(_, order) => Some(*order),
            Self::Place(_) | Self::Cancel(..) | Self::Deposit(_) | Self::Withdraw(_) | Self::Halt(_) => None,
        }
    }

    /// What to name when the outcome is unknown.
    #[must_use]
    pub fn unknown(&self) -> CommandError {
        let order_id = match self {
            Self::Place(command) => command.order_id,
            Self::Cancel(_, order) | Self::Release(_, order) => *order,
            Self::Deposit(_) | Self::Withdraw(_) | Self::Halt(_) => return CommandError::UnknownRepeatable,
        };
        CommandError::Unknown { order_id }
    }
}

/// What a command came to.
#[derive(Debug)]
pub enum Done {
    /// An order was placed, or was there.
    Placed(Box<Placed>),
    /// Something without a result.
    Nothing,
}

/// The answer to a command.
pub type Answer = Result<Done, CommandError>;

/// A queued command.
#[derive(Debug)]
pub struct Item {
    /// What is asked.
    pub command: Command,
    /// How often it lost its version.
    pub lost: u32,
    /// Since when the account lock has been busy.
    busy_since: Option<Instant>,
    /// When its batch failed for the first time.
    failed_since: Option<Instant>,
    /// How often its batch failed before anything was written.
    pub failed: u32,
    /// Whether a commit with it was sent and not confirmed. Then it is never "not taken".
    pub maybe_committed: bool,
    state: Arc<AtomicU8>,
    reply: Option<oneshot::Sender<Answer>>,
}

impl Item {
    const fn new(command: Command, state: Arc<AtomicU8>, reply: Option<oneshot::Sender<Answer>>) -> Self {
        Self { command, lost: 0, failed: 0, maybe_committed: false, busy_since: None, failed_since: None, state, reply }
    }

    /// A command of our own that nobody waits for.
    #[must_use]
    pub fn internal(command: Command) -> Self {
        Self::new(command, Arc::new(AtomicU8::new(QUEUED)), None)
    }

    /// A command that comes by no queue, and the road of its answer.
    #[must_use]
    pub fn asked(command: Command) -> (Self, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (Self::new(command, Arc::new(AtomicU8::new(QUEUED)), Some(reply)), answer)
    }

    /// Notes that the account lock is busy, and answers whether it has been for that long.
    pub fn is_past_busy(&mut self, limit: Duration) -> bool {
        self.busy_since.get_or_insert_with(Instant::now).elapsed() >= limit
    }

    /// Notes a failure, and answers whether the first one is that long ago.
    pub fn is_past_retry(&mut self, limit: Duration) -> bool {
        self.failed_since.get_or_insert_with(Instant::now).elapsed() >= limit
    }

    /// Takes it for the worker; false when the caller has given it up.
    pub fn claim(&self) -> bool {
        self.state.compare_exchange(QUEUED, CLAIMED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Answers that it came to nothing, as far as that is known.
    pub fn give_up(self) {
        let answer = if self.maybe_committed {
            metrics::counter!("commands_unknown_total").increment(1);
            self.command.unknown()
        } else {
            metrics::counter!("commands_not_taken_total", "reason" => "store").increment(1);
            CommandError::NotTaken { reason: "the database is not available" }
        };
        self.answer(Err(answer));
    }

    /// Answers it.
    pub fn answer(self, answer: Answer) {
        if let Some(reply) = self.reply {
            // The caller may have hung up; the command has happened all the same.
            let _gone = reply.send(answer);
        }
    }
}

/// Gives up a command that is still queued when its caller goes away.
struct AbandonOnDrop(Arc<AtomicU8>);

impl AbandonOnDrop {
    fn abandon(&self) -> bool {
        self.0.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// A slice on its way, with the road back.
#[derive(Debug)]
pub struct SliceItem {
    /// The slice.
    pub slice: FactSlice,
    /// Where the consumer waits.
    pub reply: oneshot::Sender<Result<SliceResult, StoreError>>,
}

/// The entrances of one shard.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    /// For commands.
    pub commands: mpsc::Sender<Item>,
    /// For slices.
    pub slices: mpsc::Sender<SliceItem>,
}

/// All shards of this process. Shard = partition modulo number of shards, so a worker owns whole
/// partitions and is the one writer of their accounts in this process.
#[derive(Debug, Clone)]
pub struct Shards {
    handles: Arc<[ShardHandle]>,
    deadline: Duration,
}

impl Shards {
    /// Wraps the entrances. `deadline` is how long a command may wait before a worker takes it.
    #[must_use]
    pub fn new(handles: Vec<ShardHandle>, deadline: Duration) -> Self {
        Self { handles: handles.into(), deadline }
    }

    fn handle(&self, partition: Partition) -> Option<&ShardHandle> {
        let count = self.handles.len().max(1);
        self.handles.get(usize::try_from(partition.number()).unwrap_or(0) % count)
    }

    /// Hands a slice to its worker and waits for what becomes of it.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the worker is gone or the infrastructure failed.
    pub async fn apply(&self, slice: FactSlice) -> Result<SliceResult, StoreError> {
        let gone = || StoreError::Failed { what: "reach the shard worker", source: "it has ended".into() };
        let handle = self.handle(slice.partition).ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        handle.slices.send(SliceItem { slice, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn run(&self, command: Command) -> Answer {
        let ended = || CommandError::NotTaken { reason: "the server is shutting down" };
        let handle = self.handle(Partition::of_account(command.account_id())).ok_or_else(ended)?;
        let unknown = command.unknown();
        let (reply, answer) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(QUEUED));
        let guard = AbandonOnDrop(Arc::clone(&state));
        let item = Item::new(command, state, Some(reply));
        match handle.commands.try_send(item) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::counter!("commands_not_taken_total", "reason" => "queue_full").increment(1);
                return Err(CommandError::NotTaken { reason: "too many orders are waiting" });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(ended()),
        }
        tokio::pin!(answer);
        if let Ok(answer) = tokio::time::timeout(self.deadline, &mut answer).await {
            return answer.unwrap_or(Err(unknown));
        }
        if guard.abandon() {
            metrics::counter!("commands_not_taken_total", "reason" => "deadline").increment(1);
            return Err(CommandError::NotTaken { reason: "the order waited too long" });
        }
        // Claimed: it may be committed at any moment, so its end is waited for. The worker's own
        // limits bound the wait.
        answer.await.unwrap_or(Err(unknown))
    }
}

#[async_trait]
impl Commands for Shards {
    async fn place(&self, command: PlaceOrder) -> Result<Placed, CommandError> {
        let unknown = CommandError::Unknown { order_id: command.order_id };
        match self.run(Command::Place(command)).await? {
            Done::Placed(placed) => Ok(*placed),
            Done::Nothing => Err(unknown),
        }
    }

    async fn cancel(&self, account_id: AccountId, order_id: OrderId) -> Result<(), CommandError> {
        self.run(Command::Cancel(account_id, order_id)).await.map(|_| ())
    }

    async fn deposit(&self, command: Deposit) -> Result<(), CommandError> {
        self.run(Command::Deposit(command)).await.map(|_| ())
    }

    async fn withdraw(&self, command: Withdrawal) -> Result<(), CommandError> {
        self.run(Command::Withdraw(command)).await.map(|_| ())
    }

    async fn halt(&self, command: HaltAccount) -> Result<(), CommandError> {
        self.run(Command::Halt(command)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn cancel() -> Command {
        Command::Cancel(AccountId::new(Uuid::nil()), OrderId::new(Uuid::nil()))
    }

    fn shards(capacity: usize, deadline: Duration) -> (Shards, mpsc::Receiver<Item>) {
        let (commands, queue) = mpsc::channel(capacity);
        let (slices, _closed) = mpsc::channel(1);
        (Shards::new(vec![ShardHandle { commands, slices }], deadline), queue)
    }

    #[tokio::test]
    async fn a_command_past_its_deadline_is_abandoned_and_never_claimed() {
        let (shards, mut queue) = shards(1, Duration::ZERO);
        assert!(matches!(shards.run(cancel()).await, Err(CommandError::NotTaken { .. })));
        assert!(!queue.recv().await.unwrap().claim());
    }

    #[tokio::test]
    async fn a_claimed_command_is_waited_for_past_its_deadline() {
        let (shards, mut queue) = shards(1, Duration::ZERO);
        let (commands, mut claimed) = mpsc::channel(1);
        let handle = shards.clone();
        // Claimed before the caller looks at its deadline: the caller must wait for the answer.
        let worker = tokio::spawn(async move {
            let item = queue.recv().await.unwrap();
            let won = item.claim();
            commands.send(item).await.unwrap();
            won
        });
        let caller = tokio::spawn(async move { handle.run(cancel()).await });
        let item = claimed.recv().await.unwrap();
        if worker.await.unwrap() {
            item.answer(Ok(Done::Nothing));
            assert!(caller.await.unwrap().is_ok());
        } else {
            assert!(matches!(caller.await.unwrap(), Err(CommandError::NotTaken { .. })));
        }
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_nothing_to_claim() {
        let (shards, mut queue) = shards(1, Duration::from_secs(60));
        let caller = tokio::spawn(async move { shards.run(cancel()).await });
        let item = queue.recv().await.unwrap();
        caller.abort();
        assert!(caller.await.is_err());
        assert!(!item.claim());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (shards, _queue) = shards(1, Duration::from_secs(60));
        let first = shards.clone();
        let waiting = tokio::spawn(async move { first.run(cancel()).await });
        while shards.handles[0].commands.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(shards.run(cancel()).await, Err(CommandError::NotTaken { .. })));
        waiting.abort();
    }
}
