-- The addresses of leads: id, address; by id.
select
    id,
    email
from hyperdrip.lead
where id = any(%(lead_ids)s::bigint[])
order by id;
