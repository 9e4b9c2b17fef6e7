-- The pace per recipient domain (DOMAIN_LIMITS), which all workers of a database share: a row per domain.
create table hyperdrip.domain_pace (
    domain text primary key,
    free_at timestamptz not null default '-infinity',
    line_ends_at timestamptz not null default '-infinity'
) with (fillfactor = 50);
comment on table hyperdrip.domain_pace is
'when the next message to a domain may go under its limit, on the server''s own clock';
comment on column hyperdrip.domain_pace.line_ends_at is
'until when messages that did not fit were told to wait: it spreads them, and promises nothing';
