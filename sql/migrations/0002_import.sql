-- Rows of a file while it is imported, the key under which erased addresses stay suppressed, and the day
-- before which a lead does not start.

-- An import that is under way. A process that was killed leaves its rows; the next import removes them.
-- Its number is that of the transaction that begins it, so that not even a sequence moves in a dry run.
create table hyperdrip.import_batch (
    id bigint primary key default pg_current_xact_id()::text::bigint,
    started_at timestamptz not null default clock_timestamp()
);

-- Unlogged: after a crash of the server nothing is left of a half-done import.
create unlogged table hyperdrip.import_row (
    batch bigint not null,
    line integer not null,
    name text not null,
    email text not null,
    phone text,
    notes text,
    fields jsonb not null,
    cells jsonb,
    email_key text generated always as (lower(email)) stored,
    phone_key text generated always as (
        regexp_replace(regexp_replace(phone, '[^0-9+]', '', 'g'), '^00', '+')
    ) stored,
    fate text check (fate in ('new', 'update', 'enroll', 'duplicate', 'suppressed', 'rejected')),
    culprit text,
    reason text,
    lead_id bigint,
    run integer,
    position integer
);
create index import_row_position on hyperdrip.import_row (batch, position) where position is not null;
comment on column hyperdrip.import_row.cells is 'the row as it stood in the file, when errors are to be written';
comment on column hyperdrip.import_row.fate is 'what becomes of the row, once that is decided';
comment on column hyperdrip.import_row.culprit is 'the column that is to blame: email or phone';
comment on column hyperdrip.import_row.position is 'the place among the rows that are planned, from 1 on';

alter table hyperdrip.instance add column hash_key text not null default gen_random_uuid()::text;
comment on column hyperdrip.instance.hash_key is
'mixed into the hash of an erased address, so that a copy of the hashes alone gives nothing away';

alter table hyperdrip.lead_import add column suppressed_count integer not null default 0;
alter table hyperdrip.lead_import add column enrolled_count integer not null default 0;

alter table hyperdrip.lead add column start_on date;
comment on column hyperdrip.lead.start_on is
'the day that somebody asked for: message 1 of this run does not go before it';

-- The two keys under which an address may be suppressed: itself in lower case, and its keyed hash.
create function hyperdrip.suppression_keys(address text) returns text[]
language sql stable
as $$
    select array[
        lower($1),
        'sha256:' || encode(sha256(convert_to(instance.hash_key || lower($1), 'UTF8')), 'hex')
    ]
    from hyperdrip.instance
$$;
