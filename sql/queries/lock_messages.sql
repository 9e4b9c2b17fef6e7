-- Lock all messages of leads, of every run; the leads one of whose messages is being sent, by id.
with held as (
    select
        lead_id,
        state
    from hyperdrip.message
    where lead_id = any(%(lead_ids)s::bigint[])
    order by lead_id, run, number
    for no key update
)

select distinct lead_id
from held
where state = 'sending'
order by lead_id;
