-- An event that an operator lets the workers try again parks its account until it has taken effect.
alter table deferred drop constraint deferred_reason_check;
alter table deferred add constraint deferred_reason_check
    check (reason in ('busy', 'behind', 'poison', 'retry', 'orphan'));

drop index deferred_waiting;
create index deferred_waiting on deferred (producer, partition, seq) where reason in ('busy', 'behind', 'retry');

-- The mark of key changes, whatever the role that changes a key, or asks, may do to the table itself: a role that
-- was given its rights before there was such a table must neither fail to revoke a key nor overlook a revoked one.
create or replace function mark_key_change() returns trigger language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
begin
    update public.api_key_changes set last = gen_random_uuid();
    return null;
end
$$;

create function last_key_change() returns uuid language sql stable
    security definer set search_path = pg_catalog, pg_temp as $$
    select last from public.api_key_changes
$$;

-- What a copy says of itself: whether it can work on what it holds.
alter table copies add column ability text not null default 'able' check (ability in ('able', 'troubled', 'unable'));
