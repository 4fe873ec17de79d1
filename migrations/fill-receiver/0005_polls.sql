-- Up to where the broker was asked for its orders: none that was placed before is asked for again, but for an overlap.
-- Moves by compare-and-set, like the cursor, after the transactions that stored what was found. When the stream was
-- last alive says nothing of it: a broker that replays nothing is alive again before anybody asked what was missed.
alter table streams add column polled_to timestamptz;
update streams set polled_to = least(alive_at, now());
alter table streams alter column polled_to set not null;
