//! The reading half: bytes into frames, frames into events.

use super::{Item, Queued, SessionContext, Stop};
use crate::application::ports::{Chunks, EventStore};
use crate::domain::comment::Comment;
use crate::domain::frame::{Frame, FrameParser};
use crate::domain::intake::StopReason;
use crate::domain::reading::{RawFrame, read_frame};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Fills the queue.
pub(super) struct Reader<S> {
    pub(super) context: Arc<SessionContext<S>>,
    pub(super) sender: mpsc::Sender<Queued>,
    pub(super) bytes: Arc<Semaphore>,
}

impl<S: EventStore> Reader<S> {
    /// Returns at the end of the body, or when it is stopped; at a hole it stops the writer itself.
    pub(super) async fn read(self, mut chunks: Chunks, stop: Stop) -> StopReason {
        let limits = self.context.limits;
        let mut parser = FrameParser::new(limits.frame_bytes_max);
        let mut frames = Vec::new();
        let silence = Duration::from_millis(limits.silence_deadline_ms);
        loop {
            let next = tokio::select! {
                biased;
                () = stop.stopped() => return StopReason::Broken,
                next = tokio::time::timeout(silence, chunks.next()) => next,
            };
            let chunk = match next {
                Err(_elapsed) => return hole(&stop, StopReason::Silence),
                Ok(None) => return StopReason::Ended,
                Ok(Some(Err(error))) => {
                    tracing::info!(error = %platform::telemetry::Chain(&*error), "stream broke off");
                    return StopReason::Broken;
                }
                Ok(Some(Ok(chunk))) => chunk,
            };
            metrics::counter!("fill_receiver_bytes_total").increment(chunk.len() as u64);
            let parsed = parser.push(&chunk, &mut frames);
            for frame in frames.drain(..) {
                if !self.hand_over(frame, &stop).await {
                    return StopReason::Broken;
                }
            }
            if let Err(error) = parsed {
                tracing::error!(error = %platform::telemetry::Chain(&error), "stream cannot be framed");
                return hole(&stop, StopReason::BadFraming);
            }
        }
    }

    /// False when reading is over.
    async fn hand_over(&self, frame: Frame, stop: &Stop) -> bool {
        let queued: Queued = match frame {
            Frame::Data(bytes) => {
                let raw = RawFrame::new(bytes);
                let known = self.context.seen().position(&raw.sha256());
                match known {
                    Some(position) => (Item::Known(position), None),
                    None => {
                        let Some(permit) = self.reserve(raw.bytes().len(), stop).await else { return false };
                        (Item::Event(Box::new(read_frame(&self.context.profile, raw))), Some(permit))
                    }
                }
            }
            Frame::Comment(Comment::Dropped { messages }) => {
                tracing::warn!(?messages, "broker dropped messages of the stream");
                metrics::counter!("fill_receiver_dropped_messages_total").increment(messages.unwrap_or(1));
                hole(stop, StopReason::Dropped);
                return false;
            }
            Frame::Comment(Comment::ServerError) => {
                hole(stop, StopReason::ServerError);
                return false;
            }
            Frame::Comment(Comment::Heartbeat | Comment::Other) => (Item::Alive, None),
        };
        tokio::select! {
            biased;
            () = stop.stopped() => false,
            sent = self.sender.send(queued) => sent.is_ok(),
        }
    }

    async fn reserve(&self, len: usize, stop: &Stop) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(len).ok()?;
        tokio::select! {
            biased;
            () = stop.stopped() => None,
            permit = Arc::clone(&self.bytes).acquire_many_owned(permits) => permit.ok(),
        }
    }
}

fn hole(stop: &Stop, reason: StopReason) -> StopReason {
    stop.set(reason);
    reason
}
