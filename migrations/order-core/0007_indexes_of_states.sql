-- An update that leaves every indexed value as it was needs no new entry in any index. status and
-- updated_at change at each step of an order; these two change for few orders, and stay what they are
-- for all others.
alter table orders
    add column is_reserved boolean generated always as (status = 'reserved') stored,
    add column doubtful_since timestamptz
        generated always as (case when status in ('in_doubt', 'manual') then updated_at end) stored;

drop index orders_reserved;
create index orders_reserved on orders (partition, id) where is_reserved;

drop index orders_doubtful;
create index orders_doubtful on orders (doubtful_since) where doubtful_since is not null;

-- Made anew, as the newest of the indexes that begin with the account: while the table is small, all of
-- them seem to cost the same, and the newest is taken. Looking for a client's id by the account alone
-- means reading all of its orders.
alter table orders
    drop constraint orders_client_order_id_key,
    add constraint orders_client_order_id_key unique (account_id, client_order_id);
