//! The processes of a stack.

use std::fmt;
use std::str::FromStr;

use super::error::StackError;

/// Most copies of one engine process in a stack.
pub const COPIES_MAX: u8 = 4;

/// One process of the local stack. The order of the variants is the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcessName {
    /// The private PostgreSQL server.
    Postgres,
    /// The private Redis server.
    Redis,
    /// The simulated broker.
    BrokerSim,
    /// The order server.
    OrderServer,
    /// The broker gateway.
    BrokerGateway,
    /// The fill receiver.
    FillReceiver,
    /// The second order server, or a later one.
    OrderServerCopy(Copies),
    /// The second broker gateway, or a later one.
    BrokerGatewayCopy(Copies),
    /// The second fill receiver, or a later one.
    FillReceiverCopy(Copies),
}

/// Which further copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Copies {
    /// The second.
    Second,
    /// The third.
    Third,
    /// The fourth.
    Fourth,
}

impl Copies {
    const ALL: [Self; 3] = [Self::Second, Self::Third, Self::Fourth];

    const fn number(self) -> u8 {
        match self {
            Self::Second => 2,
            Self::Third => 3,
            Self::Fourth => 4,
        }
    }
}

impl ProcessName {
    /// The processes of a stack of one copy each, in start order.
    pub const ALL: [Self; 6] =
        [Self::Postgres, Self::Redis, Self::BrokerSim, Self::OrderServer, Self::BrokerGateway, Self::FillReceiver];

    /// The engine's own processes, each of which may be killed at any moment.
    pub const ENGINE: [Self; 3] = [Self::OrderServer, Self::BrokerGateway, Self::FillReceiver];

    /// Every process of a stack with that many copies of each engine process, in start order.
    #[must_use]
    pub fn with_copies(copies: u8) -> Vec<Self> {
        let further = Self::ENGINE.into_iter().flat_map(move |name| (2..=copies).filter_map(move |n| name.nth(n)));
        Self::ALL.into_iter().chain(further).collect()
    }

    /// Every process that there can be, in the order in which a stack ends: the entrance first, what
    /// others lean on last.
    #[must_use]
    pub fn stop_order() -> Vec<Self> {
        let engine = Self::ENGINE.into_iter().flat_map(|name| (1..=COPIES_MAX).filter_map(move |n| name.nth(n)));
        engine.chain([Self::BrokerSim, Self::Redis, Self::Postgres]).collect()
    }

    /// The engine processes of a stack with that many copies of each.
    #[must_use]
    pub fn engine(copies: u8) -> Vec<Self> {
        Self::ENGINE.into_iter().flat_map(|name| (1..=copies).filter_map(move |n| name.nth(n))).collect()
    }

    /// The copy of an engine process with a number, from 1; none for other processes and numbers.
    #[must_use]
    pub fn nth(self, number: u8) -> Option<Self> {
        let copy = Copies::ALL.into_iter().find(|copy| copy.number() == number);
        match (self.first(), copy) {
            (first @ (Self::OrderServer | Self::BrokerGateway | Self::FillReceiver), None) => {
                (number == 1).then_some(first)
            }
            (Self::OrderServer, Some(copy)) => Some(Self::OrderServerCopy(copy)),
            (Self::BrokerGateway, Some(copy)) => Some(Self::BrokerGatewayCopy(copy)),
            (Self::FillReceiver, Some(copy)) => Some(Self::FillReceiverCopy(copy)),
            _ => None,
        }
    }

    /// The first copy of the same program.
    #[must_use]
    pub const fn first(self) -> Self {
        match self {
            Self::OrderServerCopy(_) => Self::OrderServer,
            Self::BrokerGatewayCopy(_) => Self::BrokerGateway,
            Self::FillReceiverCopy(_) => Self::FillReceiver,
            name => name,
        }
    }

    /// Which copy it is, from 1.
    #[must_use]
    pub const fn copy(self) -> u8 {
        match self {
            Self::OrderServerCopy(copy) | Self::BrokerGatewayCopy(copy) | Self::FillReceiverCopy(copy) => copy.number(),
            _ => 1,
        }
    }

    /// The name of its program; of the first copy also that on command lines and of the log file.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self.first() {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::BrokerSim => "broker-sim",
            Self::OrderServer | Self::OrderServerCopy(_) => "order-server",
            Self::BrokerGateway | Self::BrokerGatewayCopy(_) => "broker-gateway",
            Self::FillReceiver | Self::FillReceiverCopy(_) => "fill-receiver",
        }
    }

    /// The name on command lines, in messages and of the log file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrderServerCopy(Copies::Second) => "order-server-2",
            Self::OrderServerCopy(Copies::Third) => "order-server-3",
            Self::OrderServerCopy(Copies::Fourth) => "order-server-4",
            Self::BrokerGatewayCopy(Copies::Second) => "broker-gateway-2",
            Self::BrokerGatewayCopy(Copies::Third) => "broker-gateway-3",
            Self::BrokerGatewayCopy(Copies::Fourth) => "broker-gateway-4",
            Self::FillReceiverCopy(Copies::Second) => "fill-receiver-2",
            Self::FillReceiverCopy(Copies::Third) => "fill-receiver-3",
            Self::FillReceiverCopy(Copies::Fourth) => "fill-receiver-4",
            name => name.program(),
        }
    }

    /// The variable of `stack.env` that holds its process id.
    #[must_use]
    pub fn pid_variable(self) -> String {
        format!("PID_{}", self.as_str().to_uppercase().replace('-', "_"))
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for ProcessName {
    type Err = StackError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::stop_order().into_iter();
        all.find(|name| name.as_str() == text).ok_or_else(|| StackError::UnknownProcess {
            given: text.to_owned(),
            known: Self::ALL.map(Self::as_str).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_an_unknown_one_lists_them() {
        for name in ProcessName::with_copies(COPIES_MAX) {
            assert_eq!(name.as_str().parse::<ProcessName>().unwrap(), name);
        }
        let error = "orderserver".parse::<ProcessName>().unwrap_err().to_string();
        assert!(error.contains("\"orderserver\"") && error.contains("order-server"), "{error}");
    }

    #[test]
    fn every_process_is_ended_once() {
        let mut ended = ProcessName::stop_order();
        ended.sort_unstable();
        let mut all = ProcessName::with_copies(COPIES_MAX);
        all.sort_unstable();
        assert_eq!(ended, all);
        assert_eq!(all.len(), 15);
    }
}
