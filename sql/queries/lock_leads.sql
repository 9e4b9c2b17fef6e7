-- Lock leads for a change, by id: id, address, status, run.
select
    id,
    email,
    status,
    run
from hyperdrip.lead
where id = any(%(lead_ids)s::bigint[])
order by id
for no key update;
