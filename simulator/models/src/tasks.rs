//! Production tasks over the databases in memory, one call at a time, in every order.
//!
//! A task cannot be copied, so it is begun anew for each step and told all answers that it has had: what it
//! does next depends on nothing else. A state is thus the databases and what each task has been told.
//! Calls that make no difference to others ([`Op::is_local`]) are done at once.

use crate::memory::{Db, Op, Port, Reply, TxId};
use contracts::AccountId;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A task at work.
pub type Work<V> = Pin<Box<dyn Future<Output = V> + Send>>;

/// One task of a state.
#[derive(Debug, Clone)]
pub struct Task<V> {
    told: Vec<Arc<Reply>>,
    told_digest: u64,
    /// The call that waits; none at its end.
    pub pending: Option<Arc<Op>>,
    /// What it came to.
    pub ended: Option<V>,
    /// Whether its process has died.
    pub is_dead: bool,
    tokens: BTreeMap<AccountId, u64>,
    tx: Option<TxId>,
}

/// A moment of a story.
#[derive(Debug, Clone)]
pub struct State<V> {
    /// The databases.
    pub db: Db,
    /// The tasks.
    pub tasks: Vec<Task<V>>,
    /// How many faults are left to happen.
    pub faults_left: u8,
    digest: u64,
}

impl<V> Hash for State<V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl<V> PartialEq for State<V> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happens {
    /// A task's call is done.
    Call(usize, &'static str),
    /// A task's commit is done, and it is not told so.
    CommitDoneAndUnconfirmed(usize),
    /// A task's commit is not done, and it is not told so.
    CommitLostAndUnconfirmed(usize),
    /// The lock server does not answer a task.
    LockServerGone(usize),
    /// The lease of a lock runs out, its holder standing still or not.
    LeaseEnds(AccountId),
    /// A task's process dies.
    Dies(usize),
}

/// Which faults may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// How many in one story.
    pub most: u8,
    /// Unconfirmed commits.
    pub unconfirmed_commits: bool,
    /// Leases that run out.
    pub leases: bool,
    /// The lock server away.
    pub lock_server: bool,
    /// Processes that die.
    pub deaths: bool,
}

impl<V: Clone + Debug + Hash> State<V> {
    /// Begins all tasks.
    pub fn begin(db: Db, tasks: usize, faults_left: u8, spawn: &impl Fn(usize, Port) -> Work<V>) -> Self {
        let task = Task {
            told: Vec::new(),
            told_digest: 0,
            pending: None,
            ended: None,
            is_dead: false,
            tokens: BTreeMap::new(),
            tx: None,
        };
        let mut state = Self { db, tasks: vec![task; tasks], faults_left, digest: 0 };
        for (n, task) in state.tasks.iter_mut().enumerate() {
            task.go_on(n, spawn);
        }
        state.seal();
        state
    }

    /// Everything that may happen now.
    pub fn possible(&self, faults: &Faults, happens: &mut Vec<Happens>) {
        for (n, task) in self.tasks.iter().enumerate() {
            let Some(op) = task.pending.as_deref().filter(|_| !task.is_dead) else { continue };
            happens.push(Happens::Call(n, op.as_str()));
            if self.faults_left == 0 {
                continue;
            }
            if op.is_commit() && faults.unconfirmed_commits {
                happens.push(Happens::CommitDoneAndUnconfirmed(n));
                happens.push(Happens::CommitLostAndUnconfirmed(n));
            }
            if matches!(op, Op::Acquire(_)) && faults.lock_server {
                happens.push(Happens::LockServerGone(n));
            }
            if faults.deaths {
                happens.push(Happens::Dies(n));
            }
        }
        if faults.leases && self.faults_left > 0 {
            happens.extend(self.db.locked().map(Happens::LeaseEnds));
        }
    }

    /// Lets it happen; false where it cannot. `on_call` sees each call before it is done.
    pub fn let_happen(
        &mut self,
        what: Happens,
        spawn: &impl Fn(usize, Port) -> Work<V>,
        on_call: &impl Fn(&mut Db, &Op, &BTreeMap<AccountId, u64>),
    ) -> bool {
        if !matches!(what, Happens::Call(..)) {
            self.faults_left = self.faults_left.saturating_sub(1);
        }
        let (n, reply) = match what {
            Happens::LeaseEnds(account) => {
                self.db.expire_lock(account);
                self.seal();
                return true;
            }
            Happens::Dies(n) => {
                let Some(task) = self.tasks.get_mut(n) else { return false };
                task.is_dead = true;
                // What it was told matters no more.
                (task.told, task.told_digest) = (Vec::new(), 0);
                if let Some(tx) = task.tx.take() {
                    self.db.abort(tx);
                }
                self.seal();
                return true;
            }
            Happens::LockServerGone(n) => (n, Reply::NoLockServer),
            Happens::CommitLostAndUnconfirmed(n) => {
                let Some(tx) = self.tasks.get(n).and_then(|task| task.tx) else { return false };
                self.db.abort(tx);
                (n, Reply::CommitUnknown)
            }
            Happens::CommitDoneAndUnconfirmed(n) => match self.call(n, on_call) {
                Some(Reply::Done) => (n, Reply::CommitUnknown),
                _ => return false,
            },
            Happens::Call(n, _) => match self.call(n, on_call) {
                Some(reply) => (n, reply),
                None => return false,
            },
        };
        self.tell(n, reply, spawn);
        while self.tasks.get(n).and_then(|task| task.pending.as_deref()).is_some_and(Op::is_local) {
            let Some(reply) = self.call(n, on_call) else { break };
            self.tell(n, reply, spawn);
        }
        self.seal();
        true
    }

    fn tell(&mut self, n: usize, reply: Reply, spawn: &impl Fn(usize, Port) -> Work<V>) {
        if let Some(task) = self.tasks.get_mut(n) {
            task.learn(reply);
            task.go_on(n, spawn);
        }
    }

    fn call(&mut self, n: usize, on_call: &impl Fn(&mut Db, &Op, &BTreeMap<AccountId, u64>)) -> Option<Reply> {
        let task = self.tasks.get(n)?;
        let op = task.pending.clone()?;
        on_call(&mut self.db, &op, &task.tokens);
        self.db.run(&op, &task.tokens)
    }

    /// Whether nothing can go on.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.tasks.iter().all(|task| task.is_dead || task.ended.is_some())
    }

    fn seal(&mut self) {
        let mut hasher = DefaultHasher::new();
        (&self.db, self.faults_left).hash(&mut hasher);
        for task in &self.tasks {
            (task.told_digest, task.told.len(), task.is_dead, &task.ended, &task.tokens).hash(&mut hasher);
        }
        self.digest = hasher.finish();
    }
}

impl<V: Clone> Task<V> {
    fn learn(&mut self, reply: Reply) {
        match (self.pending.as_deref(), &reply) {
            (Some(Op::Acquire(accounts)), Reply::Locks(tokens)) => {
                let had = accounts.iter().zip(tokens).filter_map(|(account, token)| Some((*account, (*token)?)));
                self.tokens = had.collect();
            }
            (Some(Op::Release(_)), _) => self.tokens.clear(),
            (Some(Op::Begin), Reply::Begun(tx)) => self.tx = Some(*tx),
            (Some(op), _) if op.tx().is_some() && (op.is_commit() || op.as_str() == "rollback") => self.tx = None,
            _ => {}
        }
        let mut hasher = DefaultHasher::new();
        (self.told_digest, &reply).hash(&mut hasher);
        self.told_digest = hasher.finish();
        self.told.push(Arc::new(reply));
    }

    fn go_on(&mut self, n: usize, spawn: &impl Fn(usize, Port) -> Work<V>) {
        let port = Port::default();
        for reply in &self.told {
            port.answer(Arc::clone(reply));
        }
        let mut work = spawn(n, port.clone());
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => {
                self.ended = Some(ended);
                self.pending = None;
                // How it came there matters no more.
                (self.told, self.told_digest) = (Vec::new(), 0);
            }
            Poll::Pending => self.pending = port.pending().map(Arc::new),
        }
    }
}
