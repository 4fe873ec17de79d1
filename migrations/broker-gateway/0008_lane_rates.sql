-- The rate of a broker's lane as operators set it; every copy reads it several times a second.
create table lane_rates (
    broker      text        primary key,
    -- calls a second of all copies together; null: what each copy is configured with
    rate_per_s  integer     check (rate_per_s >= 0),
    -- one more with every change, so that what was read earlier never undoes what was read later
    revision    bigint      not null check (revision > 0)
);

-- What operators did, in the transaction that did it. operator is who the credential belongs to.
create table operator_actions (
    id          bigint      generated always as identity primary key,
    at          timestamptz not null,
    operator    text        not null,
    action      text        not null,
    subject     text        not null,
    reason      text,
    terms       text        not null
);

create trigger operator_actions_append_only before update or delete on operator_actions
    for each statement execute function refuse_change();

-- A further attempt of an order in doubt was due like a new order once.
update requests set due_rank = 1 where state = 'doubt' and due_rank = 2;
