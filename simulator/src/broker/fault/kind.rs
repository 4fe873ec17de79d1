//! The kinds of faults.

use serde::{Deserialize, Serialize};

/// What a fault is about: a call of a client, or an event on its way to one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A new order.
    #[default]
    Submit,
    /// A cancel.
    Cancel,
    /// A replacement of an order's terms.
    Replace,
    /// A lookup by client order id or by order id.
    Lookup,
    /// A list of orders.
    List,
    /// An event that enters the stream.
    Stream,
    /// An event that is pushed.
    Push,
}

impl Call {
    pub(in crate::broker) const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Cancel => "cancel",
            Self::Replace => "replace",
            Self::Lookup => "lookup",
            Self::List => "list",
            Self::Stream => "stream",
            Self::Push => "push",
        }
    }
}

/// Where in the life of an order a kind of fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The request or its reply; at most one a request.
    Request,
    /// A promise that the broker does not keep to an order; any number an order.
    Promise,
    /// What becomes of an accepted order; any number an order.
    Execution,
    /// What a cancel does.
    Cancel,
    /// What a replacement does.
    Replace,
    /// The event stream.
    Stream,
    /// A push.
    Push,
}

impl Stage {
    /// Whether it can strike such a call.
    #[must_use]
    pub const fn strikes(self, call: Call) -> bool {
        match self {
            Self::Request => {
                matches!(call, Call::Submit | Call::Cancel | Call::Replace | Call::Lookup | Call::List)
            }
            Self::Promise | Self::Execution => matches!(call, Call::Submit),
            Self::Cancel => matches!(call, Call::Cancel),
            Self::Replace => matches!(call, Call::Replace),
            Self::Stream => matches!(call, Call::Stream),
            Self::Push => matches!(call, Call::Push),
        }
    }

    /// The call that it strikes where none is named.
    #[must_use]
    pub const fn call(self) -> Call {
        match self {
            Self::Request | Self::Promise | Self::Execution => Call::Submit,
            Self::Cancel => Call::Cancel,
            Self::Replace => Call::Replace,
            Self::Stream => Call::Stream,
            Self::Push => Call::Push,
        }
    }
}

macro_rules! fault_kinds {
    ($($(#[$meta:meta])* $variant:ident = $word:literal, $stage:ident;)+) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FaultKind {
            $($(#[$meta])* $variant,)+
        }

        impl FaultKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its word in configuration and tallies.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Where it strikes.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $(Self::$variant => Stage::$stage,)+ }
            }
        }
    };
}

fault_kinds! {
    /// The connection closes; nothing was received.
    DropBeforeReceipt = "drop_before_receipt", Request;
    /// Done, but the connection closes instead of a reply.
    DropReply = "drop_reply", Request;
    /// The connection closes; the order is taken and its key used, but it can only be seen, and
    /// only trades, some time later.
    RecordLate = "record_late", Request;
    /// The connection closes; the request arrives, and is processed, some time later.
    ArriveLate = "arrive_late", Request;
    /// A 5xx, and nothing was done.
    ErrorBeforeEffect = "error_before_effect", Request;
    /// A 5xx, although it was done.
    ErrorAfterEffect = "error_after_effect", Request;
    /// Done at once, answered late.
    SlowReply = "slow_reply", Request;
    /// A 429, and nothing was done.
    RateLimited = "rate_limited", Request;
    /// A 503 that speaks of maintenance, and nothing was done.
    Maintenance = "maintenance", Request;
    /// A 401: the key or token is not taken, and nothing was done.
    Unauthorized = "unauthorized", Request;
    /// A 200 whose JSON means nothing.
    Nonsense = "nonsense", Request;
    /// A 502 page of HTML.
    Html = "html", Request;
    /// The reply breaks off in the middle.
    HalfBody = "half_body", Request;
    /// No reply, until the client gives up.
    NeverAnswer = "never_answer", Request;
    /// A 403: the broker does not want the order.
    Reject = "reject", Request;
    /// The order is taken although its `valid_until` has passed.
    IgnoreValidUntil = "ignore_valid_until", Promise;
    /// The client order id was used before, and the order is taken all the same.
    ForgetKey = "forget_key", Promise;
    /// The order is filled in several parts.
    PartialFills = "partial_fills", Execution;
    /// An execution is sent a second time, under a new event id.
    DuplicateFill = "duplicate_fill", Execution;
    /// An execution is sent a second time under another execution id; only the cumulative quantity,
    /// which does not move, tells that it is the same one.
    DuplicateFillNewId = "duplicate_fill_new_id", Execution;
    /// An execution is sent a second time without any execution id.
    DuplicateFillNoId = "duplicate_fill_no_id", Execution;
    /// The order is filled, and the events are out, before the reply is.
    FillBeforeAck = "fill_before_ack", Execution;
    /// Two executions of equal quantity, price and time.
    IdenticalPartials = "identical_partials", Execution;
    /// An event of the order comes after the one that followed it.
    ReorderEvents = "reorder_events", Execution;
    /// Accepted, and rejected a while later.
    RejectLate = "reject_late", Execution;
    /// An order that is not ours appears beside it.
    ForeignOrder = "foreign_order", Execution;
    /// A fill never reaches live streams; only a replay shows it.
    LostEvent = "lost_event", Execution;
    /// The first execution is told some time after it happened, after everything else until then;
    /// lookups do not show it before either.
    Backfill = "backfill", Execution;
    /// The first execution is taken back a while later.
    Bust = "bust", Execution;
    /// The first execution turns out to have had another price a while later.
    Correct = "correct", Execution;
    /// The cancel is accepted, then a fill comes, then the cancel takes effect.
    FillAfterCancel = "fill_after_cancel", Cancel;
    /// The cancel is refused although the order is open.
    CancelRefused = "cancel_refused", Cancel;
    /// The cancel is accepted, and refused by an event a while later; the order works on.
    CancelRejectedLate = "cancel_rejected_late", Cancel;
    /// The replacement is accepted, and refused by an event a while later; the order works on.
    ReplaceRejectedLate = "replace_rejected_late", Replace;
    /// The replacement is accepted, then the old order fills, so that the new one is rejected.
    FillBeforeReplace = "fill_before_replace", Replace;
    /// All streams break off.
    StreamReset = "stream_reset", Stream;
    /// Live streams lose the event; those with a cursor are told that something was dropped.
    DropMessage = "drop_message", Stream;
    /// A push is sent again after its acknowledgement.
    PushDuplicate = "push_duplicate", Push;
    /// A push is sent by somebody who does not know the secret, before the broker sends it.
    PushForged = "push_forged", Push;
    /// The broker hangs up before the acknowledgement, and sends the push again.
    PushLostAck = "push_lost_ack", Push;
    /// A push is sent late.
    PushDelayed = "push_delayed", Push;
    /// The events of a push come in reverse order.
    PushReordered = "push_reordered", Push;
}

impl FaultKind {
    /// Whether it can strike such a call.
    #[must_use]
    pub const fn strikes(self, call: Call) -> bool {
        let only_on_submit = matches!(self, Self::RecordLate | Self::ArriveLate | Self::Reject);
        self.stage().strikes(call) && (!only_on_submit || matches!(call, Call::Submit))
    }
}
