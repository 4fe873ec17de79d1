//! The processes of a stack.

use std::fmt;
use std::str::FromStr;

use super::error::StackError;

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
}

impl ProcessName {
    /// Every process, in start order.
    pub const ALL: [Self; 6] =
        [Self::Postgres, Self::Redis, Self::BrokerSim, Self::OrderServer, Self::BrokerGateway, Self::FillReceiver];

    /// Every process, in the order in which a stack ends: the entrance first, what others lean on last.
    pub const STOP_ORDER: [Self; 6] =
        [Self::OrderServer, Self::BrokerGateway, Self::FillReceiver, Self::BrokerSim, Self::Redis, Self::Postgres];

    /// The engine's own processes, each of which may be killed at any moment.
    pub const ENGINE: [Self; 3] = [Self::OrderServer, Self::BrokerGateway, Self::FillReceiver];

    /// The name on command lines, in messages and of the log file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::BrokerSim => "broker-sim",
            Self::OrderServer => "order-server",
            Self::BrokerGateway => "broker-gateway",
            Self::FillReceiver => "fill-receiver",
        }
    }

    /// The variable of `stack.env` that holds its process id.
    #[must_use]
    pub const fn pid_variable(self) -> &'static str {
        match self {
            Self::Postgres => "PID_POSTGRES",
            Self::Redis => "PID_REDIS",
            Self::BrokerSim => "PID_BROKER_SIM",
            Self::OrderServer => "PID_ORDER_SERVER",
            Self::BrokerGateway => "PID_BROKER_GATEWAY",
            Self::FillReceiver => "PID_FILL_RECEIVER",
        }
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
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| StackError::UnknownProcess {
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
        for name in ProcessName::ALL {
            assert_eq!(name.as_str().parse::<ProcessName>().unwrap(), name);
        }
        let error = "orderserver".parse::<ProcessName>().unwrap_err().to_string();
        assert!(error.contains("\"orderserver\"") && error.contains("order-server"), "{error}");
    }

    #[test]
    fn every_process_is_ended_once() {
        let mut ended = ProcessName::STOP_ORDER;
        ended.sort_unstable();
        assert_eq!(ended, ProcessName::ALL);
    }
}
