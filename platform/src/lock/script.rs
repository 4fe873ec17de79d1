//! Compare-and-delete: a lock is given back only by its own token.

use super::releaser::Leftover;
use crate::keys;
use crate::link::{Link, LinkError};
use redis::{ErrorKind, Pipeline, RedisError, Script, ServerErrorKind, Value};
use std::sync::LazyLock;

const CODE: &str = "local held = redis.call('get', KEYS[1]) \
    if held == ARGV[1] then return redis.call('del', KEYS[1]) elseif held then return 2 else return 0 end";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(CODE));

/// What became of one lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    /// It held our token, and is gone.
    Deleted,
    /// Nobody holds it: expired.
    Gone,
    /// It holds another's token, and was left alone: ours expired, and another took it.
    Refused,
    /// The server refused the command.
    Failed,
}

/// Releases locks in one round trip, two after a restart of the server that forgot the script.
pub(super) async fn release(link: &Link, locks: &[Leftover]) -> Result<Vec<Released>, LinkError> {
    let mut by_hash = redis::pipe();
    for lock in locks {
        invoke(&mut by_hash, "EVALSHA", SCRIPT.get_hash(), lock);
    }
    let answers = link.run(&mut by_hash).await?;
    if !answers.iter().any(|answer| answer.as_ref().is_err_and(is_unknown_script)) {
        return Ok(answers.iter().map(sort).collect());
    }
    // Running the others again is harmless, but would count them as gone: only the refused ones.
    let mut by_code = redis::pipe();
    for (lock, answer) in locks.iter().zip(&answers) {
        if answer.as_ref().is_err_and(is_unknown_script) {
            invoke(&mut by_code, "EVAL", CODE, lock);
        }
    }
    let mut second = link.run(&mut by_code).await?.into_iter();
    Ok(answers
        .iter()
        .map(|answer| match answer {
            Err(error) if is_unknown_script(error) => second.next().as_ref().map_or(Released::Failed, sort),
            other => sort(other),
        })
        .collect())
}

fn invoke(pipeline: &mut Pipeline, command: &str, script: &str, lock: &Leftover) {
    pipeline.cmd(command).arg(script).arg(1).arg(keys::account_lock(lock.account)).arg(lock.token());
}

fn sort(answer: &Result<Value, RedisError>) -> Released {
    match answer {
        Ok(Value::Int(1)) => Released::Deleted,
        Ok(Value::Int(2)) => Released::Refused,
        Ok(Value::Int(_)) => Released::Gone,
        Ok(_) | Err(_) => Released::Failed,
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
