-- Lock leads by id; one row for each that is not ACTIVE: id, status; by id.
with locked as materialized (
    select
        id,
        status
    from hyperdrip.lead
    where id = any(%(lead_ids)s::bigint[])
    order by id
    for no key update
)

select
    id,
    status
from locked
where status <> 'ACTIVE'
order by id;
