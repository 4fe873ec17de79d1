-- A cumulative quantity that goes down: something was taken back, and nobody told it. Nothing is booked by it.
alter table cumulative_fills
    -- The least quantity that a suspect was recorded for since the last increase: each fall is told once.
    add column fallen_to numeric check (fallen_to >= 0 and fallen_to < quantity),
    -- Events that showed less than is known since the broker was last asked for the order alone. An event may just
    -- be late; the order as the broker shows it then, is not.
    add column doubts integer not null default 0;

drop index cumulative_fills_open;
create index cumulative_fills_asked on cumulative_fills (broker, broker_order_id) where open or doubts > 0;

alter table suspects
    drop constraint suspects_reason_check,
    add constraint suspects_reason_check check (reason in ('terms_differ', 'second_broker_order', 'filled_less')),
    -- An order may fall to the same bytes twice; the event is the last fill that is known before it.
    drop constraint suspects_once,
    add constraint suspects_once unique (broker, raw_sha256, reason, event_id);
