\set account random(1, :accounts)
\set quantity random(1, 500)
begin;
update account set version = version + 1, held = held + :quantity * 18712 where id = :account and available - held >= :quantity * 18712;
insert into purchase (account_id, client_order_id, symbol, side, quantity, price) values (:account, gen_random_uuid(), 'AAPL', 'buy', :quantity, 18712) on conflict do nothing returning id \gset
insert into outgoing (order_id, type, payload) values (:id, 'order_placed', jsonb_build_object('account', :account::bigint, 'symbol', 'AAPL', 'side', 'buy', 'quantity', :quantity::bigint, 'price', 18712));
commit;
