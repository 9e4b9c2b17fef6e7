-- Take planned messages of leads out of the calendar, to the given state (planned without a day, or
-- cancelled); one row each: lead, day and envelope that it had; by lead and number.
with held as (
    select
        lead_id,
        run,
        number,
        day,
        envelope_id
    from hyperdrip.message
    where lead_id = any(%(lead_ids)s::bigint[]) and state = 'planned'
    order by lead_id, run, number
    for no key update
),

taken as (
    update hyperdrip.message as message
    set
        state = %(state)s,
        day = null,
        envelope_id = null,
        not_before = null
    from held
    where
        message.lead_id = held.lead_id
        and message.run = held.run
        and message.number = held.number
        and message.state = 'planned'
    returning message.lead_id, message.number, held.day, held.envelope_id
)

select
    lead_id,
    day,
    envelope_id
from taken
order by lead_id, number;
