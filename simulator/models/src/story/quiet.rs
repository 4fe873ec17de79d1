//! The quiet part of a story: nothing new goes wrong until nothing is left to do.

use super::World;
use super::broker::Status;
use super::gateway::Stage;
use time::Duration;

/// A story that is not at rest after so many rounds never will be.
const ROUNDS_MAX: usize = 20_000;

impl World {
    /// Goes on until everything is at rest; answers what is not.
    pub(super) fn come_to_rest(&mut self) -> Vec<String> {
        self.note("nothing new goes wrong from here");
        for _ in 0..ROUNDS_MAX {
            let worked = self.settle_network() | self.settle_broker() | self.settle_logs() | self.settle_customers();
            if worked {
                continue;
            }
            let Some(due) = self.gateway.next_due().into_iter().chain(self.hands_due()).min() else {
                return Vec::new();
            };
            if due > self.now {
                self.tick(due - self.now);
                continue;
            }
            if self.gateway.claim(self.now, self.since(), 0, false) == 0 {
                let pause = Duration::try_from(self.gateway.paused_for(self.since())).unwrap_or(Duration::ZERO);
                self.tick(pause.max(Duration::milliseconds(50)));
            }
        }
        vec!["the story never comes to rest".to_owned()]
    }

    fn settle_network(&mut self) -> bool {
        let mut worked = false;
        let hands: Vec<u64> = self.gateway.hands.keys().copied().collect();
        for hand in hands {
            match self.gateway.hands.get(&hand).map(|hand| &hand.stage) {
                Some(Stage::Claimed) => self.send(hand),
                Some(Stage::Ended(_)) => self.record(hand),
                Some(Stage::Waiting(_)) | None => continue,
            }
            worked = true;
        }
        while !self.broker.flights.is_empty() {
            self.arrive(0, 0, false);
            worked = true;
        }
        worked
    }

    fn settle_broker(&mut self) -> bool {
        let mut worked = false;
        for n in 0..self.broker.orders.len() {
            let Some(order) = self.broker.orders.get(n) else { continue };
            if !order.shown {
                self.broker.show(n, self.now);
                worked = true;
            } else if order.cancel_taken && order.status == Status::Live {
                self.end_order(n, Status::Canceled);
                worked = true;
            }
        }
        worked
    }

    fn settle_logs(&mut self) -> bool {
        let mut worked = false;
        if !self.receiver.is_connected() {
            self.receiver.connect(&self.broker, self.now);
            worked = true;
        }
        while self.receiver.has_frames(&self.broker) {
            self.receiver.deliver(&self.broker);
            self.receiver.commit(self.now);
            if !self.receiver.is_connected() {
                self.receiver.connect(&self.broker, self.now);
            }
            worked = true;
        }
        if self.receiver.has_batch() {
            self.receiver.commit(self.now);
        }
        let behind: Vec<_> = self.logs().into_iter().filter(|log| self.is_behind(*log)).collect();
        for log in behind {
            self.consume(log, false, None);
            worked = true;
        }
        if !self.core.db.deferred.is_empty() {
            let before = self.core.db.deferred.len();
            self.core.redrive(self.now);
            worked |= self.core.db.deferred.len() < before;
        }
        worked
    }

    /// Customers who know nothing ask again; those who never asked stay away.
    fn settle_customers(&mut self) -> bool {
        let unanswered = self.core.wishes.iter().position(|wish| wish.posted && wish.told.is_none());
        if let Some(n) = unanswered {
            self.core.db_leases_end();
            self.post(n, None);
        }
        unanswered.is_some()
    }
}
