-- Move leads from some statuses to another, with the reason; the ids that moved, by id.
with moved as (
    update hyperdrip.lead
    set
        status = %(status)s,
        status_reason = %(reason)s
    where id = any(%(lead_ids)s::bigint[]) and status = any(%(from_statuses)s::text[])
    returning id
)

select id
from moved
order by id;
