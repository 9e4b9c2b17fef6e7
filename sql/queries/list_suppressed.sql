-- Those of the given addresses that must never be written to, as they were given, with the reason; by
-- address. An erased address is known by its keyed hash.
select
    given.email,
    min(suppression.reason) as reason
from unnest(%(emails)s::text[]) as given (email)
inner join hyperdrip.suppression
    on suppression.email_key = any(hyperdrip.suppression_keys(given.email))
group by given.email
order by given.email;
