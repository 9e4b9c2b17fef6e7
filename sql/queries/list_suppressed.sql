-- Those of the given addresses that must never be written to, in lower case, with the reason; by
-- address.
select
    email_key,
    reason
from hyperdrip.suppression
where email_key = any(
    select lower(given.email) from unnest(%(emails)s::text[]) as given (email)
)
order by email_key;
