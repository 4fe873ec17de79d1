-- Signed pushes, how far the stream was audited, and what persons closed.

-- Signed pushes that were taken, written in the transaction that stores their events: before it the
-- same push is new, after it the same push is a repeat. Kept for longer than a signature is valid.
create table push_nonces (
    broker       text        not null,
    key_id       text        not null,
    nonce        text        not null,
    body_sha256  bytea       not null check (octet_length(body_sha256) = 32),
    stored_at    timestamptz not null,
    primary key (broker, key_id, nonce)
);

create index push_nonces_stored_at on push_nonces (stored_at);

-- Up to where the stream was read a second time; none before the first audit. Moves by
-- compare-and-set, like the cursor.
alter table streams add column audited text check (length(audited) = 26);

-- Ranges that overlap are one range, so a range has no key but its number; a closed one says
-- nothing about what is lost in its stretch later.
alter table unproven_ranges drop constraint unproven_ranges_once;
drop index unproven_ranges_open;
alter table unproven_ranges rename column covered_at to closed_at;
alter table unproven_ranges
    add column closed_by        text,
    add column closed_why       text,
    add column closed_evidence  text,
    add constraint unproven_ranges_closed_by_somebody check (
        num_nonnulls(closed_at, closed_by, closed_why, closed_evidence) in (0, 4)
    );
create index unproven_ranges_open on unproven_ranges (broker, stream, id) where closed_at is null;

alter table suspects
    add column closed_at        timestamptz,
    add column closed_by        text,
    add column closed_why       text,
    add column closed_evidence  text,
    add constraint suspects_closed_by_somebody check (
        num_nonnulls(closed_at, closed_by, closed_why, closed_evidence) in (0, 4)
    );
create index suspects_open on suspects (broker, id) where closed_at is null;
