-- Suppress addresses under their keyed hash; rows that hold the addresses themselves go.
with given as (
    select distinct hyperdrip.suppression_keys(address.email) as keys
    from unnest(%(emails)s::text[]) as address (email)
),

plain as (
    delete from hyperdrip.suppression
    where email_key in (select given.keys[1] from given)
)

insert into hyperdrip.suppression (email_key, reason)
select
    given.keys[2] as email_key,
    %(reason)s::text as reason
from given
order by given.keys[2]
on conflict (email_key) do nothing;
