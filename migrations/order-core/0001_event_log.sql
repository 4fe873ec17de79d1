-- The event log, its heads and the consumer's positions. The same in every service's database.

-- What others must know, written in the transaction that makes it true. seq is gapless and in
-- commit order within a partition; prev_id is the event at seq - 1.
create table event_log (
    partition    smallint    not null check (partition between 0 and 15),
    seq          bigint      not null check (seq > 0),
    event_id     uuid        not null,
    prev_id      uuid,
    type         text        not null,
    version      smallint    not null,
    account_id   uuid,
    order_id     uuid,
    at           timestamptz not null,
    traceparent  text,
    payload      text        not null,
    primary key (partition, seq),
    constraint event_log_event_id_key unique (event_id),
    constraint event_log_chain check ((seq = 1) = (prev_id is null))
);

create index event_log_order_id on event_log (order_id) where order_id is not null;

-- One row a partition, bumped once a batch, last before commit. A sequence would show 6 before 5.
create table event_heads (
    partition     smallint primary key check (partition between 0 and 15),
    seq           bigint   not null default 0,
    event_id      uuid
) with (fillfactor = 50);

insert into event_heads (partition) select generate_series(0, 15);

-- How far this service has applied each producer's log; moves only in the transaction of the effect.
create table applied (
    producer   text     not null,
    partition  smallint not null check (partition between 0 and 15),
    seq        bigint   not null default 0,
    event_id   uuid,
    primary key (producer, partition)
) with (fillfactor = 50);

insert into applied (producer, partition)
select producer, partition
from unnest(array['order-core', 'broker-gateway', 'fill-receiver']) producer, generate_series(0, 15) partition;

-- Events that could not take effect yet (account busy, an earlier one waiting, or poison). They
-- keep their order within an account; the partition goes on.
create table deferred (
    producer     text        not null,
    partition    smallint    not null,
    seq          bigint      not null,
    account_id   uuid,
    order_id     uuid,
    reason       text        not null check (reason in ('busy', 'behind', 'poison', 'orphan')),
    detail       text        not null default '',
    envelope     text        not null,
    deferred_at  timestamptz not null,
    primary key (producer, partition, seq)
);

create index deferred_account on deferred (account_id);
create index deferred_order on deferred (order_id);
