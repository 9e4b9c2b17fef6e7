-- Those of the given addresses that must never be written to, in lower case, with the reason; by
-- address. An erased address is known by its keyed hash.
select
    lower(given.email) as email_key,
    min(suppression.reason) as reason
from unnest(%(emails)s::text[]) as given (email)
inner join hyperdrip.suppression
    on suppression.email_key = any(hyperdrip.suppression_keys(given.email))
group by lower(given.email)
order by lower(given.email);
