-- Suppress addresses; one row for each: itself in lower case, and whether it was not suppressed before; by
-- address. One that is known by its keyed hash stays so. Lower case is the database's own, as claims have it.
with given as (
    select distinct lower(address.email) as email
    from unnest(%(emails)s::text[]) as address (email)
),

inserted as (
    insert into hyperdrip.suppression (email_key, reason, created_at)
    select
        given.email,
        %(reason)s::text as reason,
        %(now)s::timestamptz as created_at
    from given
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

select
    given.email,
    inserted.email_key is not null as is_new
from given
left join inserted on given.email = inserted.email_key
order by given.email;
