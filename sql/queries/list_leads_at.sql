-- Leads that have one of these addresses, which are in lower case: ids, in order.
select lead.id
from unnest(%(emails)s::text[]) as given (email)
inner join hyperdrip.lead as lead on lower(lead.email) = given.email
order by lead.id;
