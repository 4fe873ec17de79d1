-- An update that leaves every indexed value as it was needs no new entry in any index. state and
-- state_since change at each step of a request; this one is null for all but few.
alter table requests
    add column unsettled_since timestamptz
        generated always as (case when state in ('doubt', 'manual') then state_since end) stored;

drop index requests_unsettled;
create index requests_unsettled on requests (unsettled_since) where unsettled_since is not null;
