-- Accounts, what they hold, their orders, and the journal of every movement.
--
-- No foreign keys between the tables of one account: each is written only under the account's row
-- lock and version, and a key check would lock the account row again for every order and line.

create table accounts (
    id               uuid          primary key,
    partition        smallint      not null check (partition between 0 and 15),
    number           text          not null constraint accounts_number_key unique,
    status           text          not null default 'active' check (status in ('active', 'closed')),
    currency         text          not null check (currency ~ '^[A-Z]{3}$'),
    version          bigint        not null default 0,
    cash_available   numeric(28,13) not null default 0 check (cash_available >= 0),
    cash_held        numeric(28,13) not null default 0 check (cash_held >= 0),
    cash_shortfall   numeric(28,13) not null default 0 check (cash_shortfall >= 0),
    created_at       timestamptz   not null
) with (fillfactor = 50);

create sequence account_numbers start 100001;

create table positions (
    account_id       uuid          not null,
    symbol           text          not null,
    shares_available numeric(28,13) not null default 0 check (shares_available >= 0),
    shares_held      numeric(28,13) not null default 0 check (shares_held >= 0),
    shares_shortfall numeric(28,13) not null default 0 check (shares_shortfall >= 0),
    cost_basis       numeric(28,13) not null default 0,
    primary key (account_id, symbol)
) with (fillfactor = 70);

create index positions_in_debt on positions (account_id) where shares_shortfall > 0;

-- Facts only move up; status is their fold, kept beside them for queries.
create table orders (
    id                  uuid          primary key,
    account_id          uuid          not null,
    partition           smallint      not null,
    client_order_id     text          not null check (length(client_order_id) between 1 and 128),
    terms_hash          bytea         not null,
    symbol              text          not null,
    asset_id            uuid          not null,
    side                text          not null check (side in ('buy', 'sell')),
    order_type          text          not null check (order_type in ('market', 'limit')),
    time_in_force       text          not null check (time_in_force in ('day', 'gtc')),
    quantity            numeric(18,9) not null check (quantity > 0),
    limit_price         numeric(10,4) check (limit_price > 0),
    hold_price          numeric(28,13) not null check (hold_price > 0),
    submit              text          not null,
    manual              boolean       not null default false,
    cancel_requests     integer       not null default 0,
    cancels_refused     integer       not null default 0,
    broker_end          text,
    broker_end_quantity numeric(28,13),
    gross_quantity      numeric(28,13) not null default 0,
    net_quantity        numeric(28,13) not null default 0,
    net_notional        numeric(28,13) not null default 0,
    hold_cash           numeric(28,13) not null default 0 check (hold_cash >= 0),
    hold_shares         numeric(28,13) not null default 0 check (hold_shares >= 0),
    commission          numeric(28,13) not null default 0,
    broker              text,
    broker_order_id     text,
    reason              text,
    status              text          not null,
    closed              boolean       not null,
    accepted_at         timestamptz   not null,
    updated_at          timestamptz   not null,
    cancel_requested_at timestamptz,
    ended_at            timestamptz,
    constraint orders_client_order_id_key unique (account_id, client_order_id),
    constraint orders_limit_price check ((order_type = 'limit') = (limit_price is not null)),
    constraint orders_closed_holds_nothing check (not closed or (hold_cash = 0 and hold_shares = 0))
) with (fillfactor = 70);

-- Order ids are version 7 and so sort by submission.
create index orders_by_account on orders (account_id, id);
create index orders_open on orders (account_id, id) where not closed;
create index orders_reserved on orders (partition, id) where status = 'reserved';
create index orders_doubtful on orders (updated_at) where status in ('in_doubt', 'manual');

-- The fill ledger: a set keyed by the broker's identity of each execution, of which our event id is
-- a pure function.
create table executions (
    event_id              uuid          primary key,
    order_id              uuid          not null,
    account_id            uuid          not null,
    kind                  text          not null check (kind in ('fill', 'correct', 'bust')),
    execution_id          text          not null,
    previous_execution_id text,
    quantity              numeric(18,9) check (quantity > 0),
    price                 numeric(10,4) check (price > 0),
    at                    timestamptz   not null,
    applied_at            timestamptz   not null,
    constraint executions_figures check ((kind = 'bust') = (quantity is null) and (quantity is null) = (price is null)),
    constraint executions_previous check ((kind = 'fill') = (previous_execution_id is null))
);

create index executions_by_order on executions (order_id);

-- Append only. Each line takes an amount from one ledger and gives it to another, so it balances.
create table journal_lines (
    id          bigint        generated always as identity,
    account_id  uuid          not null,
    order_id    uuid,
    cause       text          not null,
    cause_id    uuid          not null,
    asset       text          not null,
    debit       text          not null,
    credit      text          not null,
    amount      numeric(28,13) not null check (amount > 0),
    at          timestamptz   not null,
    primary key (account_id, id),
    check (debit <> credit)
);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append only', tg_table_name using errcode = 'integrity_constraint_violation';
end
$$;

create trigger journal_lines_append_only before update or delete on journal_lines
    for each statement execute function refuse_change();
create trigger executions_append_only before update or delete on executions
    for each statement execute function refuse_change();

-- Every change of an order's status, with what caused it. Never without a cause.
create table order_transitions (
    id          bigint      generated always as identity,
    order_id    uuid        not null,
    from_status text,
    to_status   text        not null,
    cause       text        not null,
    cause_id    uuid        not null,
    at          timestamptz not null,
    primary key (order_id, id)
);

create trigger order_transitions_append_only before update or delete on order_transitions
    for each statement execute function refuse_change();

-- Which order a broker's order is, where the broker's events do not say it; and the events of
-- broker orders that nobody has claimed yet. Both writers first lock the broker_orders row, so
-- that neither misses the other.
create table broker_orders (
    broker          text not null,
    broker_order_id text not null,
    order_id        uuid,
    primary key (broker, broker_order_id)
);

create table orphans (
    event_id        uuid        primary key,
    broker          text        not null,
    broker_order_id text        not null,
    envelope        text        not null,
    kept_at         timestamptz not null
);

create index orphans_by_broker_order on orphans (broker, broker_order_id);

-- Refused requests with a client's own id, so that a delayed duplicate of one cannot trade.
create table refusals (
    account_id      uuid        not null,
    client_order_id text        not null,
    terms_hash      bytea       not null,
    http_status     smallint    not null,
    code            integer     not null,
    message         text        not null,
    refused_at      timestamptz not null,
    primary key (account_id, client_order_id)
);

create table deposits (
    account_id uuid           not null,
    reference  text           not null,
    amount     numeric(28,13) not null check (amount > 0),
    at         timestamptz    not null,
    primary key (account_id, reference)
);

-- Only the hash of a secret is kept; secrets are 256 random bits, so one round of SHA-256 is enough.
create table api_keys (
    key_id        text        primary key,
    account_id    uuid        not null,
    secret_sha256 bytea       not null check (length(secret_sha256) = 32),
    created_at    timestamptz not null,
    revoked_at    timestamptz
);

create table assets (
    symbol       text        primary key,
    id           uuid        not null,
    name         text        not null,
    exchange     text        not null,
    tradable     boolean     not null,
    fractionable boolean     not null,
    updated_at   timestamptz not null
);

-- Waiting events are looked for several times a second, and most of the time there is none.
create index deferred_waiting on deferred (partition, deferred_at) where reason in ('busy', 'behind');
