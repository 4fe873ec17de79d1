//! Stores around the real one.

/// Hands calls of a transaction on to the inner one.
macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        $(async fn $name(&mut self, $($arg: $type),*) -> Result<$out, order_core::application::store::StoreError> {
            self.inner.$name($($arg),*).await
        })+
    };
}

pub(crate) type BrokerKey = (contracts::BrokerId, contracts::BrokerOrderId);

/// Hands all calls on but those that decide and write.
macro_rules! forward_common {
    () => {
        crate::wrap::forward! {
            claim(at: &std::collections::BTreeMap<order_core::application::store::LogPartition, order_core::application::store::LogPosition>) -> std::collections::BTreeSet<order_core::application::store::LogPartition>;
            lock(accounts: &std::collections::BTreeSet<contracts::AccountId>, mode: order_core::application::store::LockMode) -> std::collections::BTreeSet<contracts::AccountId>;
            owners(orders: &std::collections::BTreeSet<contracts::OrderId>) -> std::collections::BTreeMap<contracts::OrderId, (contracts::AccountId, contracts::Symbol)>;
            with_deferred(accounts: &std::collections::BTreeSet<contracts::AccountId>) -> std::collections::BTreeSet<contracts::AccountId>;
            load(wants: &order_core::application::store::Wants) -> order_core::application::store::Snapshot;
            bind_broker_orders(orders: &std::collections::BTreeMap<crate::wrap::BrokerKey, Option<contracts::OrderId>>) -> std::collections::BTreeMap<crate::wrap::BrokerKey, contracts::OrderId>;
            keep_orphans(orphans: &[(contracts::BrokerId, contracts::BrokerOrderId, contracts::event::Envelope)], now: time::OffsetDateTime) -> ();
            take_orphans(orders: &std::collections::BTreeSet<crate::wrap::BrokerKey>) -> Vec<contracts::event::Envelope>;
            defer(events: &[order_core::application::store::Deferred], now: time::OffsetDateTime) -> ();
            take_deferred(partitions: &[contracts::Partition], limit: i64) -> Vec<contracts::event::Envelope>;
            clear_deferred(events: &[(contracts::event::Producer, contracts::Partition, i64)]) -> ();
            advance(moves: &std::collections::BTreeMap<order_core::application::store::LogPartition, (order_core::application::store::LogPosition, order_core::application::store::LogPosition)>) -> ();
        }
    };
}

pub(crate) use {forward, forward_common};
