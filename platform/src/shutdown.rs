//! The end of a process: a signal becomes one token, and the tasks end in stages.

use std::future::poll_fn;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    AsAsked,
    /// It was asked to, and had work under way at its deadline.
    Late,
    /// A task ended by itself, which none should.
    TaskFailed,
}

impl Ended {
    /// The process's exit code: 0 as asked, 1 a task failed, 3 late. A second signal ends a process
    /// at once with 128 and the signal's number.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::AsAsked => 0,
            Self::TaskFailed => 1,
            Self::Late => 3,
        })
    }
}

/// Tasks that end together.
#[derive(Debug)]
pub struct Stage {
    end: CancellationToken,
    tasks: JoinSet<()>,
}

impl Stage {
    /// Tasks that watch this token.
    #[must_use]
    pub const fn new(end: CancellationToken, tasks: JoinSet<()>) -> Self {
        Self { end, tasks }
    }

    /// A stage that only lets time pass: readiness is red, and load balancers turn away, while
    /// everything still works.
    #[must_use]
    pub fn pause(length: Duration) -> Self {
        let end = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let asked = end.clone();
        tasks.spawn(async move {
            asked.cancelled().await;
            tokio::time::sleep(length).await;
        });
        Self { end, tasks }
    }

    /// A stage of one task that runs already.
    #[must_use]
    pub fn of(end: CancellationToken, task: JoinHandle<()>) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task ended badly");
            }
        });
        Self { end, tasks }
    }
}

/// Waits for `shutdown`, or for a task that ends before it (a panic); then ends the stages in their
/// order, each to its last task, all within `deadline`. `left_over` says in the log what becomes of
/// work that was still under way then.
pub async fn supervise(
    shutdown: CancellationToken,
    mut stages: Vec<Stage>,
    deadline: Duration,
    left_over: &'static str,
) -> Ended {
    let ended = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ended::AsAsked,
        ended = any_ended(&mut stages) => {
            tracing::error!(?ended, "a task ended by itself; the process ends");
            shutdown.cancel();
            Ended::TaskFailed
        }
    };
    let all = async {
        for stage in &mut stages {
            stage.end.cancel();
            while stage.tasks.join_next().await.is_some() {}
        }
    };
    if tokio::time::timeout(deadline, all).await.is_err() {
        tracing::warn!(left_over, "not everything ended in time");
        return if ended == Ended::AsAsked { Ended::Late } else { ended };
    }
    ended
}

/// The first task of any stage that ends.
async fn any_ended(stages: &mut [Stage]) -> Result<(), JoinError> {
    poll_fn(|context| {
        for stage in &mut *stages {
            if let Poll::Ready(Some(ended)) = stage.tasks.poll_join_next(context) {
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

/// A token that is cancelled at the first SIGTERM or SIGINT. The second one ends the process at once,
/// with 128 and the signal's number as its exit code: what was committed is safe at any moment.
///
/// # Errors
/// The error of installing the signal handlers.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        cancel.cancel();
        let kind = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        };
        tracing::warn!("asked to end a second time: ending at once");
        std::process::exit(128 + kind.as_raw_value());
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    type Said = Arc<Mutex<Vec<&'static str>>>;

    fn stage(name: &'static str, said: &Said) -> Stage {
        let (end, said) = (CancellationToken::new(), Arc::clone(said));
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let end = end.clone();
            async move {
                end.cancelled().await;
                // Others get every chance to overtake.
                tokio::task::yield_now().await;
                said.lock().unwrap().push(name);
            }
        });
        Stage::new(end, tasks)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn stages_end_in_their_order() {
        let (said, shutdown) = (Said::default(), CancellationToken::new());
        shutdown.cancel();
        let stages = vec![stage("front", &said), stage("workers", &said), stage("bus", &said)];
        assert_eq!(supervise(shutdown, stages, LONG, "").await, Ended::AsAsked);
        assert_eq!(*said.lock().unwrap(), ["front", "workers", "bus"]);
    }

    #[tokio::test]
    async fn a_task_of_any_stage_that_ends_by_itself_ends_the_process() {
        for ends_by_itself in [0, 1, 2] {
            let (said, shutdown) = (Said::default(), CancellationToken::new());
            let mut stages = vec![stage("front", &said), stage("workers", &said)];
            stages.insert(ends_by_itself, Stage::of(CancellationToken::new(), tokio::spawn(async {})));
            assert_eq!(supervise(shutdown.clone(), stages, LONG, "").await, Ended::TaskFailed);
            assert!(shutdown.is_cancelled());
            assert_eq!(*said.lock().unwrap(), ["front", "workers"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_left_at_the_deadline() {
        let (said, shutdown) = (Said::default(), CancellationToken::new());
        shutdown.cancel();
        let stuck = Stage::of(CancellationToken::new(), tokio::spawn(std::future::pending()));
        let stages = vec![stage("front", &said), stuck];
        assert_eq!(supervise(shutdown, stages, LONG, "it is done again").await, Ended::Late);
        assert_eq!(*said.lock().unwrap(), ["front"]);
    }
}
