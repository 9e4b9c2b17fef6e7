-- Give planned messages another day and envelope; one row: how many were moved.
with moved as (
    update hyperdrip.message as message
    set
        day = given.day,
        envelope_id = given.envelope_id
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[],
        %(days)s::date[], %(envelope_ids)s::bigint[]
    ) as given (lead_id, run, number, day, envelope_id)
    where
        message.lead_id = given.lead_id
        and message.run = given.run
        and message.number = given.number
        and message.state = 'planned'
    returning message.lead_id
)

select count(*) as moved
from moved;
