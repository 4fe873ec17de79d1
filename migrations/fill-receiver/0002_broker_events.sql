-- What brokers told us, and how far each of their streams was read.

-- One row a stream. The cursor moves by compare-and-set from the value that the reader last wrote,
-- in the transaction that stores the events it passes.
create table streams (
    broker           text        not null,
    stream           text        not null,
    cursor           text        not null check (length(cursor) = 26),
    -- Part of every execution's identity: another value would log replayed fills a second time.
    execution_scope  text        not null check (execution_scope in ('broker', 'account')),
    moved_at         timestamptz not null,
    -- When the stream was last known to be whole: bounds what an outage can have hidden.
    alive_at         timestamptz not null,
    primary key (broker, stream)
) with (fillfactor = 50);

-- Which copy reads a stream. Saves work and no more: the cursor's compare-and-set and the primary
-- keys below are what keeps two readers from doing harm.
create table stream_leases (
    broker      text        not null,
    stream      text        not null,
    holder      uuid        not null,
    expires_at  timestamptz not null,
    primary key (broker, stream)
) with (fillfactor = 50);

-- Which order of ours a broker's order is. client_order_id is set once, by the first event that
-- carries it, and with it order_id (none for somebody else's order) and partition.
create table broker_orders (
    broker           text        not null,
    broker_order_id  text        not null,
    client_order_id  text,
    order_id         uuid,
    partition        smallint    not null check (partition between 0 and 15),
    first_seen_at    timestamptz not null,
    primary key (broker, broker_order_id),
    constraint broker_orders_ours_has_a_key check (order_id is null or client_order_id is not null)
);

create index broker_orders_order_id on broker_orders (order_id) where order_id is not null;

-- One row a fact, with the bytes that brought it first. event_id is a pure function of the broker's
-- identity of the fact, so this primary key is what makes a repeat a repeat. What the bytes say is
-- not repeated in columns, and no foreign keys are checked: thousands of rows a second come here,
-- each written in one transaction with the rows it names, and none is ever deleted.
create table broker_events (
    event_id         uuid        primary key,
    broker           text        not null,
    broker_order_id  text        not null,
    kind             text        not null check (kind in ('fill', 'bust', 'correct', 'state')),
    -- The event's place in the stream, when it was first seen; empty where it has none.
    position         text        not null,
    -- None while the order is an orphan.
    order_id         uuid,
    raw_sha256       bytea       not null check (octet_length(raw_sha256) = 32),
    body             bytea       not null,
    stored_at        timestamptz not null
);

create index broker_events_order_id on broker_events (order_id) where order_id is not null;
create index broker_events_orphans on broker_events (broker, broker_order_id) where order_id is null;

-- Other bytes of a fact that was stored before: the same one under another position, or rendered
-- anew, or with terms that differ (then there is a suspect too).
create table repeats (
    broker      text        not null,
    raw_sha256  bytea       not null check (octet_length(raw_sha256) = 32),
    event_id    uuid        not null,
    body        bytea       not null,
    seen_at     timestamptz not null,
    primary key (broker, raw_sha256)
);

create index repeats_event_id on repeats (event_id);

-- Facts that contradict what is stored. Nothing is changed by them; a person looks.
create table suspects (
    id               bigint      generated always as identity primary key,
    broker           text        not null,
    reason           text        not null check (reason in ('terms_differ', 'second_broker_order')),
    broker_order_id  text        not null,
    event_id         uuid        not null,
    known            text        not null,
    seen             text        not null,
    raw_sha256       bytea       not null check (octet_length(raw_sha256) = 32),
    seen_at          timestamptz not null,
    constraint suspects_once unique (broker, raw_sha256, reason)
);

-- Frames that this program could not make an event of.
create table parked (
    id                bigint      generated always as identity primary key,
    broker            text        not null,
    raw_sha256        bytea       not null check (octet_length(raw_sha256) = 32),
    body              bytea       not null,
    position          text,
    reason            text        not null
        check (reason in ('malformed', 'incomplete', 'out_of_range', 'identity_conflict', 'unstorable')),
    detail            text        not null,
    parked_at         timestamptz not null,
    redrives          integer     not null default 0,
    settled_at        timestamptz,
    settled_event_id  uuid,
    constraint parked_once unique (broker, raw_sha256)
);

create index parked_open on parked (id) where settled_at is null;

-- Stretches of a stream that the broker would not replay. Open until reconciliation has covered them.
create table unproven_ranges (
    id           bigint      generated always as identity primary key,
    broker       text        not null,
    stream       text        not null,
    from_cursor  text        not null,
    to_cursor    text        not null,
    reason       text        not null,
    found_at     timestamptz not null,
    covered_at   timestamptz,
    constraint unproven_ranges_once unique (broker, stream, from_cursor)
);

create index unproven_ranges_open on unproven_ranges (id) where covered_at is null;
