-- Which copies of this process live, and which partitions each of them prefers for what it does by
-- itself (consuming, trying again, releasing). This only saves work: positions and versions decide.

-- A copy counts as alive until its row expires; it renews the row several times a second.
create table copies (
    copy_id     uuid        primary key,
    started_at  timestamptz not null,
    expires_at  timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

create table partition_leases (
    partition   smallint    primary key check (partition between 0 and 15),
    -- null: free
    holder      uuid,
    expires_at  timestamptz not null default '-infinity'
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

insert into partition_leases (partition) select generate_series(0, 15);

-- Waiting events are tried in the order of their log.
drop index deferred_waiting;
create index deferred_waiting on deferred (producer, partition, seq) where reason in ('busy', 'behind');
