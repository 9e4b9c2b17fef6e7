-- Suppress addresses that are in lower case already; one row for each that was not suppressed yet, by address.
-- One that is known by its keyed hash stays so.
with inserted as (
    insert into hyperdrip.suppression (email_key, reason, created_at)
    select
        given.email,
        %(reason)s::text as reason,
        %(now)s::timestamptz as created_at
    from unnest(%(emails)s::text[]) as given (email)
    where
        not exists (
            select 1
            from hyperdrip.suppression
            where suppression.email_key = any(hyperdrip.suppression_keys(given.email))
        )
    order by given.email
    on conflict (email_key) do nothing
    returning email_key
)

select email_key
from inserted
order by email_key;
