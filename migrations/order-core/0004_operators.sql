-- What operators do: withdrawals, halts, keys with an end, and who did it.

-- Read under the account's version, like everything that an order is decided on.
alter table accounts add column halt_reason text;

-- What is halted for everybody. An empty symbol is the whole market.
create table halts (
    symbol    text        primary key,
    reason    text        not null,
    operator  text        not null,
    at        timestamptz not null
);

create table withdrawals (
    account_id uuid           not null,
    reference  text           not null,
    amount     numeric(28,13) not null check (amount > 0),
    at         timestamptz    not null,
    primary key (account_id, reference)
);

-- A rotated key goes on for a stated time.
alter table api_keys add column expires_at timestamptz;

create index api_keys_by_account on api_keys (account_id, key_id);

-- Append only, in the transaction of what was done. credential is what proves who it was; operator
-- is the same, or with the shared credential the name that was given.
create table operator_actions (
    id          bigint      generated always as identity primary key,
    at          timestamptz not null,
    operator    text        not null,
    credential  text        not null,
    action      text        not null,
    account_id  uuid,
    subject     text        not null,
    reason      text,
    terms       text        not null
);

create index operator_actions_by_account on operator_actions (account_id, id);

create trigger operator_actions_append_only before update or delete on operator_actions
    for each statement execute function refuse_change();

-- Who asks what happened may only know the broker's execution id.
create index executions_by_execution_id on executions using hash (execution_id);
