//! The dialect's closed vocabularies, each open at the end: an unknown word is kept as it came.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* #[doc = concat!("`", $word, "`")] $variant,)+
            /// A word that this version does not know, as it came.
            Other(String),
        }

        impl $name {
            /// The word on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }

            /// Whether this version knows the word.
            #[must_use]
            pub fn is_known(&self) -> bool {
                !matches!(self, Self::Other(_))
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(input).map(|word| Self::from(word.as_ref()))
            }
        }
    };
}

words! {
    /// Which way shares go.
    Side {
        Buy = "buy",
        Sell = "sell",
    }
}

words! {
    /// How the price of an order is set.
    OrderType {
        Market = "market",
        Limit = "limit",
        Stop = "stop",
        StopLimit = "stop_limit",
        TrailingStop = "trailing_stop",
    }
}

words! {
    /// How long an order works.
    TimeInForce {
        Day = "day",
        Gtc = "gtc",
        Opg = "opg",
        Cls = "cls",
        Ioc = "ioc",
        Fok = "fok",
    }
}

words! {
    /// Whether an order belongs to others.
    #[derive(Default)]
    OrderClass {
        /// A plain order, as the broker really writes it:
        #[default]
        Unset = "",
        Simple = "simple",
        Bracket = "bracket",
        Oco = "oco",
        Oto = "oto",
        Mleg = "mleg",
    }
}

words! {
    /// Where an order stands.
    OrderStatus {
        New = "new",
        PartiallyFilled = "partially_filled",
        Filled = "filled",
        DoneForDay = "done_for_day",
        Canceled = "canceled",
        Expired = "expired",
        Replaced = "replaced",
        PendingCancel = "pending_cancel",
        PendingReplace = "pending_replace",
        /// Held by the broker, not yet routed:
        Accepted = "accepted",
        /// Routed, not yet acknowledged:
        PendingNew = "pending_new",
        AcceptedForBidding = "accepted_for_bidding",
        Stopped = "stopped",
        Rejected = "rejected",
        Suspended = "suspended",
        Calculated = "calculated",
        Held = "held",
    }
}

impl OrderStatus {
    /// Whether nothing can follow by itself: filled, canceled, expired, rejected or replaced.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Filled | Self::Canceled | Self::Expired | Self::Rejected | Self::Replaced)
    }
}

words! {
    /// What a trade event reports. A wider set than [`OrderStatus`], and a different one.
    TradeEventKind {
        Accepted = "accepted",
        PendingNew = "pending_new",
        New = "new",
        PartialFill = "partial_fill",
        Fill = "fill",
        Canceled = "canceled",
        Expired = "expired",
        DoneForDay = "done_for_day",
        Replaced = "replaced",
        Rejected = "rejected",
        Held = "held",
        Stopped = "stopped",
        PendingCancel = "pending_cancel",
        PendingReplace = "pending_replace",
        Calculated = "calculated",
        Suspended = "suspended",
        OrderReplaceRejected = "order_replace_rejected",
        OrderCancelRejected = "order_cancel_rejected",
        TradeBust = "trade_bust",
        TradeCorrect = "trade_correct",
        Restated = "restated",
    }
}

words! {
    /// What an order does to the position.
    PositionIntent {
        BuyToOpen = "buy_to_open",
        BuyToClose = "buy_to_close",
        SellToOpen = "sell_to_open",
        SellToClose = "sell_to_close",
    }
}

words! {
    /// The class of an asset.
    #[derive(Default)]
    AssetClass {
        #[default]
        UsEquity = "us_equity",
        UsOption = "us_option",
        Crypto = "crypto",
        CryptoPerp = "crypto_perp",
    }
}

words! {
    /// Where an asset is listed. `Unlisted` is legal for client libraries, which refuse unknown ones.
    #[derive(Default)]
    Exchange {
        Amex = "AMEX",
        Arca = "ARCA",
        Ascx = "ASCX",
        Bats = "BATS",
        Nyse = "NYSE",
        Nasdaq = "NASDAQ",
        NyseArca = "NYSEARCA",
        Ftxu = "FTXU",
        Cbse = "CBSE",
        Gnss = "GNSS",
        Ersx = "ERSX",
        Otc = "OTC",
        Crypto = "CRYPTO",
        #[default]
        Unlisted = "",
    }
}

words! {
    /// Whether an asset is listed at all.
    AssetStatus {
        Active = "active",
        Inactive = "inactive",
    }
}

words! {
    /// Where an account stands.
    AccountStatus {
        Active = "ACTIVE",
        Onboarding = "ONBOARDING",
        SubmissionFailed = "SUBMISSION_FAILED",
        Submitted = "SUBMITTED",
        AccountUpdated = "ACCOUNT_UPDATED",
        ApprovalPending = "APPROVAL_PENDING",
        Approved = "APPROVED",
        ActionRequired = "ACTION_REQUIRED",
        AccountClosed = "ACCOUNT_CLOSED",
        Rejected = "REJECTED",
        Inactive = "INACTIVE",
    }
}

words! {
    /// Which side of the market a position is on.
    PositionSide {
        Long = "long",
        Short = "short",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_word_is_kept_and_written_back() {
        let status: OrderStatus = serde_json::from_str("\"pending_review\"").unwrap();
        assert_eq!(status, OrderStatus::Other("pending_review".to_owned()));
        assert!(!status.is_known());
        assert_eq!(serde_json::to_string(&status).unwrap(), "\"pending_review\"");
    }

    #[test]
    fn known_words_round_trip() {
        let kind: TradeEventKind = serde_json::from_str("\"partial_fill\"").unwrap();
        assert_eq!(kind, TradeEventKind::PartialFill);
        assert_eq!(kind.to_string(), "partial_fill");
        assert_eq!(serde_json::to_string(&OrderClass::default()).unwrap(), "\"\"");
    }
}
