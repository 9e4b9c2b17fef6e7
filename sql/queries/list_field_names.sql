-- The names of the further fields that any of the given leads has; in order.
select distinct pair.name
from hyperdrip.lead as lead
cross join lateral jsonb_object_keys(lead.fields) as pair (name)
where lead.id = any(%(lead_ids)s::bigint[])
order by pair.name;
