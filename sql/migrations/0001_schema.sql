-- The whole data model: one row of instance facts, leads, the ledger of messages, quota per day,
-- campaigns, suppressions, imports and worker heartbeats. Queues are PGMQ's own tables.

-- One row: what every process that works on this database has to agree on.
create table hyperdrip.instance (
    only_row boolean primary key default true check (only_row),
    environment text not null check (environment <> ''),
    time_zone text not null,
    daily_max integer not null check (daily_max >= 1),
    is_paused boolean not null default false,
    newest_day date,
    last_sender text,
    fingerprint text not null,
    created_at timestamptz not null default now()
);
comment on column hyperdrip.instance.newest_day is
'the newest day ever opened: a clock that goes back claims nothing';
comment on column hyperdrip.instance.fingerprint is
'system identifier and database oid of the cluster that migrated this database';

create table hyperdrip.campaign (
    name text not null check (name <> ''),
    version integer not null check (version >= 1),
    settings jsonb not null default '{}',
    is_paused boolean not null default false,
    created_at timestamptz not null default now(),
    primary key (name, version)
);
comment on column hyperdrip.campaign.settings is 'from, reply-to, footer and values for templates';

create table hyperdrip.campaign_step (
    campaign text not null,
    version integer not null,
    number integer not null check (number >= 1),
    delay_days integer not null default 1 check (delay_days >= 1),
    subject text not null,
    preheader text,
    markdown text not null,
    plain_text text,
    primary key (campaign, version, number),
    foreign key (campaign, version) references hyperdrip.campaign (name, version)
);

-- The built-in campaign has no steps: its text fits any number of messages.
insert into hyperdrip.campaign (name, version) values ('default', 1);

create table hyperdrip.lead_import (
    id bigint generated always as identity primary key,
    source text not null,
    read_count integer not null default 0,
    added_count integer not null default 0,
    updated_count integer not null default 0,
    duplicate_count integer not null default 0,
    rejected_count integer not null default 0,
    first_day date,
    last_day date,
    undone_at timestamptz,
    created_at timestamptz not null default now()
);

-- No index on a column that changes at every send: it would make each update a cold one.
create table hyperdrip.lead (
    id bigint generated always as identity primary key,
    name text not null check (name <> ''),
    email text not null,
    phone text,
    phone_key text generated always as (
        regexp_replace(regexp_replace(phone, '[^0-9+]', '', 'g'), '^00', '+')
    ) stored,
    notes text,
    fields jsonb not null default '{}' check (jsonb_typeof(fields) = 'object'),
    consent_source text,
    consent_at timestamptz,
    import_id bigint references hyperdrip.lead_import (id),
    campaign text not null,
    campaign_version integer not null,
    run integer not null default 1 check (run >= 1),
    max_messages integer not null check (max_messages >= 1),
    message_count integer not null default 0,
    last_sent_at timestamptz,
    next_scheduled_for date,
    status text not null default 'ACTIVE'
    check (status in ('ACTIVE', 'COMPLETED', 'FAILED', 'PAUSED', 'STOPPED')),
    status_reason text,
    created_at timestamptz not null default now(),
    check (message_count between 0 and max_messages),
    foreign key (campaign, campaign_version) references hyperdrip.campaign (name, version)
) with (fillfactor = 70);
create unique index lead_email_key on hyperdrip.lead (lower(email));
create unique index lead_phone_key on hyperdrip.lead (phone_key);
create index lead_import_id on hyperdrip.lead (import_id) where import_id is not null;

-- The ledger: the truth about what is planned, sending, sent, failed, unknown, cancelled.
create table hyperdrip.message (
    lead_id bigint not null references hyperdrip.lead (id),
    run integer not null check (run >= 1),
    number integer not null check (number >= 1),
    campaign text not null,
    campaign_version integer not null,
    day date,
    envelope_id bigint,
    state text not null default 'planned'
    check (state in ('planned', 'sending', 'sent', 'failed', 'unknown', 'cancelled')),
    token integer not null default 0,
    attempts integer not null default 0,
    not_before timestamptz,
    sender text,
    worker bigint,
    claimed_at timestamptz,
    sent_at timestamptz,
    error text,
    provider_id text,
    primary key (lead_id, run, number),
    check (state <> 'planned' or (day is null) = (envelope_id is null)),
    check (state in ('planned', 'cancelled') or day is not null)
) with (fillfactor = 70);
create index message_day on hyperdrip.message (day);
comment on column hyperdrip.message.day is
'the day it waits for, or was handed over on; null while its lead is paused';
comment on column hyperdrip.message.token is
'goes up by one at every claim: who finishes with an older one finishes nothing';
comment on column hyperdrip.message.not_before is
'end of the backoff after a failed attempt, on the server''s own clock';

-- Capacity may be lowered below what is reserved already, so no check compares the two.
create table hyperdrip.quota_day (
    day date primary key,
    capacity integer check (capacity >= 0),
    reserved integer not null default 0 check (reserved >= 0),
    sent integer not null default 0 check (sent >= 0),
    resent integer not null default 0 check (resent >= 0),
    highest_cap integer not null default 0,
    is_closed boolean not null default false
) with (fillfactor = 70);
comment on column hyperdrip.quota_day.capacity is 'this day''s own limit; null = the daily maximum';
comment on column hyperdrip.quota_day.reserved is 'ledger rows planned for this day';
comment on column hyperdrip.quota_day.sent is 'hand-overs on this day that may have left';
comment on column hyperdrip.quota_day.resent is
'hand-overs of this day whose message was given out again, so that sent can be proved from the ledger';
comment on column hyperdrip.quota_day.highest_cap is 'the highest limit in force at any claim of this day';

create table hyperdrip.suppression (
    email_key text primary key,
    reason text not null,
    created_at timestamptz not null default now()
);
comment on column hyperdrip.suppression.email_key is
'the address in lower case, or a keyed hash of it after an erasure';

create table hyperdrip.worker (
    id bigint generated always as identity primary key,
    host text not null,
    pid integer not null,
    sender text not null,
    started_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    stopped_at timestamptz
) with (fillfactor = 50);
