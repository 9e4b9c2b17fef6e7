-- Leads that have one of these addresses or phones already: id, address in lower case, phone key;
-- by id.
select
    lead.id,
    lower(lead.email) as email_key,
    hyperdrip.phone_key(lead.phone) as phone_key
from hyperdrip.lead as lead
where lower(lead.email) = any(
    select lower(given.email) from unnest(%(emails)s::text[]) as given (email)
)
union
select
    lead.id,
    lower(lead.email) as email_key,
    hyperdrip.phone_key(lead.phone) as phone_key
from hyperdrip.lead as lead
where hyperdrip.phone_key(lead.phone) = any(%(phone_keys)s::text[])
order by 1;
