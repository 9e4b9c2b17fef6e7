-- The schema and the record of what was applied; does nothing when both are there.
create schema if not exists hyperdrip;
create table if not exists hyperdrip.schema_migration (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);
