-- Leads that have one of these addresses, in any letter case: ids, in order.
select lead.id
from hyperdrip.lead as lead
where lower(lead.email) in (select lower(given.email) from unnest(%(emails)s::text[]) as given (email))
order by lead.id;
