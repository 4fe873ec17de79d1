-- Updates to clients: each step of an order that its owner is told of, numbered without a gap within
-- the account. The numbers come from the account's row and so under its lock and version: their order
-- is the order of the commits. An update is a row of order_transitions, which most steps write anyway.

alter table accounts
    add column update_seq bigint      not null default 0,
    add column update_at  timestamptz not null default 'epoch';

-- What cannot be read from the order's immutable terms or from its executions afterwards. Quantity
-- and money are cumulative and null for none; the holding is there for executions alone.
alter table order_transitions
    add column account_id        uuid,
    add column update_seq        bigint,
    add column event             text,
    add column filled_quantity   numeric(28,13),
    add column filled_notional   numeric(28,13),
    add column position_quantity numeric(28,13),
    add constraint order_transitions_update
        check ((update_seq is null) = (event is null) and (update_seq is null) = (account_id is null));

create unique index order_transitions_updates on order_transitions (account_id, update_seq)
    where update_seq is not null;
