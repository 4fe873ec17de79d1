//! The wild part of a story: anything may happen at any time.

use super::World;
use super::broker::{Answer, Asked, Flight, Status};
use super::core::CommitFault;
use super::gateway::Stage;
use broker_gateway::application::claim::CallKind;
use broker_gateway::application::record::CallOutcome;
use broker_gateway::domain::outcome::{CancelOutcome, CreateOutcome, LookupOutcome};
use broker_gateway::domain::profile::ValidUntil;
use rand::Rng;
use rust_decimal::prelude::ToPrimitive;
use time::{Duration, OffsetDateTime};

/// How long a caller waits for a reply.
const CALL_TIMEOUT: Duration = Duration::seconds(5);
/// From claiming an attempt to writing it, at most.
const SEND_GRACE: Duration = Duration::SECOND;

impl World {
    pub(super) fn go_wild(&mut self) {
        for _ in 0..self.plot.steps {
            self.tally.steps += 1;
            match self.rng.random_range(0..100) {
                0..14 => self.customer(),
                14..34 => self.read_a_log(),
                34..46 => self.lane(),
                46..62 => self.call(),
                62..72 => self.network(),
                72..80 => self.exchange(),
                80..87 => self.stream(),
                _ => self.time(),
            }
        }
    }

    fn trouble(&mut self) -> bool {
        self.chance(self.plot.trouble)
    }

    fn commit_fault(&mut self) -> Option<CommitFault> {
        let is_one = self.trouble();
        let n = self.rng.random_range(0..CommitFault::ALL.len());
        let fault = CommitFault::ALL.get(n).copied().filter(|_| is_one);
        if let Some(fault) = fault {
            self.fault(&format!("commit: {fault:?}"));
        }
        fault
    }

    fn customer(&mut self) {
        let Some(n) = self.pick(self.core.wishes.len()) else { return };
        let Some(wish) = self.core.wishes.get(n).cloned() else { return };
        let fault = self.commit_fault();
        if wish.posted && self.chance(40) {
            self.core.cancel(wish.place.order_id, self.now, fault);
            self.note(&format!("customer cancels order {n}"));
        } else if wish.told.is_none() || self.chance(20) {
            self.post(n, fault);
        }
    }

    pub(super) fn post(&mut self, n: usize, fault: Option<CommitFault>) {
        self.core.post(n, self.now, fault);
        let told = self.core.wishes.get(n).and_then(|wish| wish.told);
        self.note(&format!("customer posts order {n}: told {told:?}"));
        let early = std::mem::take(&mut self.core.published);
        if !early.is_empty() {
            self.gateway.take_orders(&early, self.now);
        }
    }

    fn read_a_log(&mut self) {
        let behind: Vec<_> = self.logs().into_iter().filter(|log| self.is_behind(*log)).collect();
        let Some(log) = self.pick(behind.len()).and_then(|n| behind.get(n)).copied() else {
            return self.core.redrive(self.now);
        };
        let (lossy, fault) = (self.trouble(), self.commit_fault());
        self.consume(log, lossy, fault);
        self.note(&format!("{:?} reads {} {}{}", log.0, log.1, log.2.number(), if lossy { ", bus lossy" } else { "" }));
    }

    fn lane(&mut self) {
        if self.trouble() && self.chance(30) {
            self.gateway.die(self.now);
            return self.fault("gateway dies");
        }
        let dies = self.trouble() && self.chance(30);
        let jitter = self.rng.random_range(0..=1000);
        let made = self.gateway.claim(self.now, self.since(), jitter, dies);
        if dies {
            self.fault("gateway dies after a claim");
        } else if made > 0 {
            self.note(&format!("lane claims {made}"));
        }
    }

    /// Something becomes of a call that the gateway has in hand.
    fn call(&mut self) {
        let hands: Vec<u64> = self.gateway.hands.keys().copied().collect();
        let Some(hand) = self.pick(hands.len()).and_then(|n| hands.get(n)).copied() else { return };
        match self.gateway.hands.get(&hand).map(|hand| &hand.stage) {
            Some(Stage::Claimed) => self.write_or_not(hand),
            Some(Stage::Ended(_)) => self.record(hand),
            Some(Stage::Waiting(_)) | None => {}
        }
    }

    fn write_or_not(&mut self, hand: u64) {
        if self.trouble() {
            self.fault(&format!("call {hand} finds no connection"));
            self.end(hand, false);
        } else {
            self.send(hand);
        }
    }

    pub(super) fn record(&mut self, hand: u64) {
        let since = self.since();
        let outcome = match self.gateway.hands.get(&hand).map(|hand| &hand.stage) {
            Some(Stage::Ended(outcome)) => outcome.as_str(),
            _ => return,
        };
        self.gateway.record(hand, self.now, since);
        self.note(&format!("call {hand} is recorded: {outcome}"));
    }

    /// The bytes of a call leave.
    pub(super) fn send(&mut self, hand: u64) {
        let now = self.now;
        let Some(held) = self.gateway.hands.get(&hand).cloned() else { return };
        let key = self.gateway.key(&held.call);
        let Some((request, _)) = self.gateway.requests.get(&held.call.order_id) else { return };
        let broker_id = || request.broker_order_id.as_ref().map(ToString::to_string).unwrap_or_default();
        let asked = match held.call.kind {
            CallKind::Create { .. } => Asked::Create {
                key,
                wire_key: held.call.key,
                terms: request.terms.clone(),
                valid_until: held.valid_until.filter(|_| {
                    // A planted fault keeps the time to itself.
                    matches!(self.plot.truth.valid_until, ValidUntil::Honoured { .. })
                        && self.plot.mutation != super::Mutation::NoneMeansFailed
                }),
            },
            CallKind::Ask { .. } => Asked::ByKey(held.call.order_id),
            CallKind::Observe { .. } => Asked::ById(broker_id()),
            CallKind::Cancel { .. } => Asked::Cancel(broker_id()),
        };
        self.broker.flights.push(Flight { hand, asked, left: now });
        if let Some(held) = self.gateway.hands.get_mut(&hand) {
            held.stage = Stage::Waiting(now);
        }
        self.note(&format!("call {hand} goes out: {} of {}", held.call.kind.as_str(), held.call.order_id));
    }

    /// A call ends without a reply.
    pub(super) fn end(&mut self, hand: u64, was_sent: bool) {
        let Some(held) = self.gateway.hands.get_mut(&hand) else { return };
        let reason = if was_sent { "no reply" } else { "no connection" }.to_owned();
        held.stage = Stage::Ended(match (held.call.kind, was_sent) {
            (CallKind::Create { .. }, true) => CallOutcome::Create(CreateOutcome::Unknown { reason }),
            (CallKind::Create { .. }, false) => CallOutcome::Create(CreateOutcome::NotSent { reason }),
            (CallKind::Cancel { .. }, true) => CallOutcome::Cancel(CancelOutcome::Unknown { reason }),
            (CallKind::Cancel { .. }, false) => CallOutcome::Cancel(CancelOutcome::NotSent { reason }),
            (_, true) => CallOutcome::Lookup(LookupOutcome::Unknown { reason }),
            (_, false) => CallOutcome::Lookup(LookupOutcome::NotSent { reason }),
        });
    }

    fn network(&mut self) {
        let Some(flight) = self.pick(self.broker.flights.len()) else { return };
        if self.trouble() && self.chance(50) {
            let lost = self.broker.flights.remove(flight);
            return self.fault(&format!("call {} is lost on its way", lost.hand));
        }
        let (mood, reply_lost) = (if self.trouble() { self.rng.random_range(1..4) } else { 0 }, self.trouble());
        self.arrive(flight, mood, reply_lost);
    }

    pub(super) fn arrive(&mut self, flight: usize, mood: u8, reply_lost: bool) {
        let (hand, answer) = self.broker.arrive(flight, self.now, mood);
        let what = match &answer {
            Answer::Create(outcome) => outcome.as_str(),
            Answer::Lookup(outcome) => outcome.as_str(),
            Answer::Cancel(outcome) => outcome.as_str(),
        };
        let waits = self.gateway.hands.get(&hand).is_some_and(|hand| matches!(hand.stage, Stage::Waiting(_)));
        if reply_lost || !waits {
            return self.fault(&format!("broker gets call {hand}: {what}, and the reply is lost"));
        }
        self.note(&format!("broker gets call {hand}: {what}"));
        if let Some(held) = self.gateway.hands.get_mut(&hand) {
            held.stage = Stage::Ended(match answer {
                Answer::Create(outcome) => CallOutcome::Create(outcome),
                Answer::Lookup(outcome) => CallOutcome::Lookup(outcome),
                Answer::Cancel(outcome) => CallOutcome::Cancel(outcome),
            });
        }
    }

    /// Something happens to an order at the broker.
    fn exchange(&mut self) {
        let Some(n) = self.pick(self.broker.orders.len()) else { return };
        let Some(order) = self.broker.orders.get(n) else { return };
        let (status, shown, fills, cancel) = (order.status, order.shown, order.fills.len(), order.cancel_taken);
        let left = order.terms.quantity().value().to_i64().unwrap_or(0) - order.filled();
        if !shown {
            self.broker.show(n, self.now);
            return self.note(&format!("broker shows order {n}"));
        }
        if fills > 0 && self.trouble() {
            let again = self.rng.random_range(0..fills);
            self.broker.repeat(n, again, self.now);
            return self.fault(&format!("broker tells execution {again} of order {n} again"));
        }
        match (status, self.rng.random_range(0..10)) {
            (Status::Live, 0) => self.end_order(n, Status::Expired),
            (Status::Live, 1..5) if cancel => self.end_order(n, Status::Canceled),
            (Status::Live, _) => {
                let shares = self.rng.random_range(1..=left.max(1));
                let late =
                    if self.trouble() { Duration::seconds(self.rng.random_range(0..60)) } else { Duration::ZERO };
                self.broker.fill(n, shares, self.now, late);
                self.note(&format!("broker fills {shares} of order {n}, position {} s late", late.whole_seconds()));
            }
            _ => {}
        }
    }

    pub(super) fn end_order(&mut self, n: usize, status: Status) {
        self.broker.end(n, status, self.now);
        self.note(&format!("broker ends order {n}: {status:?}"));
    }

    fn stream(&mut self) {
        if !self.receiver.is_connected() {
            self.receiver.connect(&self.broker, self.now);
            return self.note("receiver connects");
        }
        if self.trouble() && self.chance(30) {
            self.receiver.die();
            return self.fault("receiver dies");
        }
        if self.trouble() && self.chance(40) && self.receiver.has_frames(&self.broker) {
            let count = self.rng.random_range(1..3);
            self.receiver.drop_frames(&self.broker, count, self.now);
            return self.fault(&format!("broker drops {count} messages"));
        }
        for _ in 0..self.rng.random_range(1..5) {
            self.receiver.deliver(&self.broker);
        }
        if self.chance(60) {
            self.receiver.commit(self.now);
        }
    }

    fn time(&mut self) {
        let by = match self.rng.random_range(0..10) {
            0..3 => Duration::milliseconds(self.rng.random_range(1..400)),
            3..5 => Duration::milliseconds(self.rng.random_range(400..8000)),
            5..9 => self.gateway.next_due().map_or(Duration::SECOND, |due| (due - self.now).max(Duration::ZERO)),
            _ => Duration::seconds(self.rng.random_range(8..400)),
        };
        self.tick(by);
    }

    /// Until when the callers have to have ended what they are at.
    pub(super) fn hands_due(&self) -> Option<OffsetDateTime> {
        self.gateway
            .hands
            .values()
            .filter_map(|hand| match hand.stage {
                Stage::Claimed => Some(hand.claimed_at + SEND_GRACE),
                Stage::Waiting(since) => Some(since + CALL_TIMEOUT),
                Stage::Ended(_) => None,
            })
            .min()
    }

    /// What a promise or a timeout makes happen now at the latest.
    pub(super) fn let_happen_what_must(&mut self) {
        let (now, profile) = (self.now, self.broker.profile.clone());
        let late: Vec<(u64, bool)> = self
            .gateway
            .hands
            .iter()
            .filter_map(|(n, hand)| match hand.stage {
                Stage::Claimed if now >= hand.claimed_at + SEND_GRACE => Some((*n, false)),
                Stage::Waiting(since) if now >= since + CALL_TIMEOUT => Some((*n, true)),
                _ => None,
            })
            .collect();
        for (hand, was_sent) in late {
            self.note(&format!("call {hand} is given up"));
            self.end(hand, was_sent);
        }
        if let Some(most) = profile.longest_flight {
            while let Some(flight) = self.broker.flights.iter().position(|flight| now >= flight.left + most) {
                self.arrive(flight, 0, true);
            }
        }
        if let ValidUntil::Honoured { record_lag_max: Some(lag) } = profile.valid_until {
            while let Some(n) = self.broker.orders.iter().position(|order| !order.shown && now >= order.at + lag) {
                self.broker.show(n, now);
                self.note(&format!("broker shows order {n}"));
            }
        }
    }
}
