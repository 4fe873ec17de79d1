-- Which change of any API key was the last: written in the transaction of the change itself, so that a copy
-- that reads the same mark again knows that every key is still what it remembers. New keys leave it alone.
-- A mark is random and not a number, so that a server that lost some of them never says an old one again.
create table api_key_changes (
    one   boolean primary key default true check (one),
    last  uuid    not null default gen_random_uuid()
) with (fillfactor = 50);

insert into api_key_changes default values;

create function mark_key_change() returns trigger language plpgsql as $$
begin
    update api_key_changes set last = gen_random_uuid();
    return null;
end
$$;

create trigger api_keys_changed after update or delete or truncate on api_keys
    for each statement execute function mark_key_change();
