-- Makes a role for `NAME run` in one service's database: it reads and writes rows, owns nothing, and can neither
-- change the schema nor what is only ever added to. `NAME migrate` keeps using the role that owns the tables; run
-- this again after it.
--
--   psql DATABASE_URL_OF_THE_OWNER -v role=order_run -v password=... -f scripts/run-role.sql

\set ON_ERROR_STOP 1
begin;
select format('create role %I login', :'role')
where not exists (select from pg_roles where rolname = :'role') \gexec
alter role :"role" password :'password';
grant usage on schema public to :"role";
grant select, insert, update, delete on all tables in schema public to :"role";
grant usage on all sequences in schema public to :"role";
-- The triggers of these tables refuse changes to whoever does not own them; this refuses even the attempt.
select format('revoke update, delete on %s from %I', tgrelid::regclass, :'role')
from pg_trigger join pg_proc on pg_proc.oid = tgfoid
where proname = 'refuse_change' \gexec
revoke update, delete on event_log from :"role";
revoke insert, update, delete on _sqlx_migrations from :"role";
commit;
