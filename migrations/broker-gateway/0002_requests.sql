-- Broker requests: one row an order, from then on the work itself. The primary key is the order id,
-- so an order that is delivered again can never become a second request.
create table requests (
    order_id            uuid          primary key,
    account_id          uuid          not null,
    partition           smallint      not null check (partition between 0 and 15),
    broker              text          not null,
    -- hash of everything that was asked for; other content under the same order id is an alarm
    content_hash        bytea         not null check (octet_length(content_hash) = 32),
    symbol              text          not null,
    side                text          not null check (side in ('buy', 'sell')),
    order_type          text          not null check (order_type in ('market', 'limit')),
    time_in_force       text          not null check (time_in_force in ('day', 'gtc')),
    quantity            numeric(18,9) not null check (quantity > 0),
    limit_price         numeric(10,4) check (limit_price > 0),
    accepted_at         timestamptz   not null,
    traceparent         text,
    received_at         timestamptz   not null,
    -- bumped by every change
    version             bigint        not null default 0,
    state               text          not null check (state in
        ('queued', 'sending', 'doubt', 'live', 'closed', 'refused', 'not_sent', 'manual', 'absent')),
    state_since         timestamptz   not null,
    -- why the request is in its state: the evidence that brought it there
    cause               text          not null,
    -- when the lane must look at it next (none: nothing to do), and in which order: 0 cancels,
    -- 1 doubts and observations, 2 sends
    due_at              timestamptz,
    due_rank            smallint      not null default 2 check (due_rank between 0 and 2),
    -- number of the last attempt; 0 proves that nothing was ever tried
    attempts            integer       not null default 0 check (attempts >= 0),
    -- fixed at the first attempt
    valid_until         timestamptz,
    -- lookups by our key: how many since the last attempt, when the last one began, and the last
    -- one that ended in a well-formed "none"
    asked               integer       not null default 0,
    asked_at            timestamptz,
    none_at             timestamptz,
    broker_order_id     text,
    broker_status       text,
    -- what differs, where the broker has another order under our key
    contradiction       text,
    -- requests to cancel and to observe: number of the newest, of the newest answered one, and calls
    -- for it that told nothing
    cancel_requested    integer       not null default 0,
    cancel_answered     integer       not null default 0,
    cancel_tries        integer       not null default 0,
    observe_requested   integer       not null default 0,
    observe_answered    integer       not null default 0,
    observe_tries       integer       not null default 0,
    constraint requests_due_only_while_open check
        (due_at is null or state not in ('refused', 'not_sent', 'manual', 'absent'))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- What the lane claims from.
create index requests_due on requests (due_rank, due_at, order_id) where due_at is not null;

-- What operators look for.
create index requests_unsettled on requests (state_since) where state in ('doubt', 'manual');

-- The attempt log: a row is committed before the first byte leaves. Only the task that inserted it
-- may write to the socket, once. No foreign key: rows are inserted only beside a locked request, and
-- the check would cost a look-up an order.
create table attempts (
    order_id         uuid        not null,
    n                integer     not null check (n > 0),
    broker_key       text        not null,
    bytes_hash       bytea       not null check (octet_length(bytes_hash) = 32),
    valid_until      timestamptz,
    -- database time: when it was claimed, until when its bytes may leave, and from when on a
    -- missing result is an unknown outcome
    claimed_at       timestamptz not null,
    send_before      timestamptz not null,
    give_up_at       timestamptz not null,
    outcome          text        check (outcome in
        ('accepted', 'duplicate', 'rejected', 'not_sent', 'rate_limited', 'unknown')),
    ended_at         timestamptz,
    http_status      smallint,
    broker_code      bigint,
    detail           text,
    duration_us      bigint,
    primary key (order_id, n),
    constraint attempts_end check ((outcome is null) = (ended_at is null))
) with (fillfactor = 80);

-- Every question about an order that was answered, or not. Evidence for persons.
create table lookups (
    order_id         uuid        not null references requests (order_id),
    n                integer     not null check (n > 0),
    by               text        not null check (by in ('key', 'broker_order_id')),
    began_at         timestamptz not null,
    ended_at         timestamptz not null,
    outcome          text        not null check (outcome in ('found', 'none', 'rate_limited', 'not_sent', 'unknown')),
    http_status      smallint,
    broker_order_id  text,
    broker_status    text,
    detail           text,
    primary key (order_id, n)
);

-- Cancel calls, logged like attempts: the row comes before the bytes.
create table cancel_attempts (
    order_id         uuid        not null references requests (order_id),
    n                integer     not null check (n > 0),
    request          integer     not null,
    broker_order_id  text        not null,
    claimed_at       timestamptz not null,
    give_up_at       timestamptz not null,
    outcome          text        check (outcome in
        ('requested', 'refused', 'not_found', 'not_sent', 'rate_limited', 'unknown')),
    ended_at         timestamptz,
    http_status      smallint,
    broker_code      bigint,
    detail           text,
    primary key (order_id, n),
    constraint cancel_attempts_end check ((outcome is null) = (ended_at is null))
);

-- What the fill receiver's log said where it changed something, or named an order that is not (or
-- not yet) here: an order that turns up later with evidence of life is never sent.
create table evidence (
    event_id         uuid        primary key,
    order_id         uuid        not null,
    broker           text        not null,
    broker_order_id  text        not null,
    event            text        not null,
    order_status     text        not null,
    cumulative       numeric,
    at               timestamptz not null,
    recorded_at      timestamptz not null,
    effect           text        not null
);

create index evidence_order on evidence (order_id);

-- Approvals of a settlement. Each binds the evidence that its person saw; evidence that came later
-- makes it worthless.
create table settlement_approvals (
    order_id         uuid        not null references requests (order_id),
    person           text        not null,
    evidence_digest  text        not null,
    -- null: the broker never had it
    broker_order_id  text,
    approved_at      timestamptz not null,
    primary key (order_id, person, evidence_digest)
);

-- Every way into and out of doubt, with what caused it: an exit names its evidence.
create table transitions (
    order_id         uuid        not null references requests (order_id),
    version          bigint      not null,
    from_state       text        not null,
    to_state         text        not null,
    cause            text        not null,
    at               timestamptz not null,
    primary key (order_id, version)
);
