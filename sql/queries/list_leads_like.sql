-- Addresses and ids of leads that begin with a text, for completion: id, address; by address.
select
    id,
    email
from hyperdrip.lead
where starts_with(lower(email), lower(%(start)s)) or starts_with('lead_' || id, lower(%(start)s))
order by email
limit %(limit)s;
