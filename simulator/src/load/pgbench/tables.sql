create table account (
    id        bigint primary key,
    version   bigint not null default 0,
    available bigint not null,
    held      bigint not null default 0
) with (fillfactor = 50);
create table purchase (
    id              bigint generated always as identity primary key,
    account_id      bigint      not null,
    client_order_id uuid        not null,
    symbol          text        not null,
    side            text        not null,
    quantity        bigint      not null,
    price           bigint      not null,
    status          text        not null default 'new',
    filled          bigint      not null default 0,
    created_at      timestamptz not null default now(),
    unique (account_id, client_order_id)
) with (fillfactor = 80);
create table outgoing (
    id         bigint generated always as identity primary key,
    order_id   bigint      not null,
    type       text        not null,
    payload    jsonb       not null,
    created_at timestamptz not null default now()
);
