-- What evidence said about the order itself, so that evidence that comes before its order can be
-- held against the order's terms. Null in rows from before.
alter table evidence add column symbol text, add column side text;
