-- What a broker that tells no executions has filled of each of its orders in all. The fills between two figures are
-- derived in the transaction that replaces the one by the other, under the row's lock.
create table cumulative_fills (
    broker           text        not null,
    broker_order_id  text        not null,
    quantity         numeric     not null check (quantity >= 0),
    amount           numeric     not null check (amount >= 0),
    -- Whether the broker may fill more of it: such orders are asked for until they are at their end.
    open             boolean     not null,
    seen_at          timestamptz not null,
    primary key (broker, broker_order_id)
) with (fillfactor = 80);

create index cumulative_fills_open on cumulative_fills (broker, broker_order_id) where open;
