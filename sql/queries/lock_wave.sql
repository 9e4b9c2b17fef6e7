-- Lock the messages that envelopes of a day point at, by lead, run and number. One row for each envelope that
-- cannot be claimed: lead, run, number, envelope, and whether its message is being sent (otherwise it points
-- at no open message of this day); by lead, run, number and envelope.
with given as (
    select
        given.lead_id,
        given.run,
        given.number,
        given.envelope_id
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(envelope_ids)s::bigint[]
    ) as given (lead_id, run, number, envelope_id)
),

locked as materialized (
    select
        message.lead_id,
        message.run,
        message.number,
        message.envelope_id,
        message.day,
        message.state
    from hyperdrip.message as message
    inner join given
        on
            message.lead_id = given.lead_id
            and message.run = given.run
            and message.number = given.number
    order by message.lead_id, message.run, message.number
    for no key update of message
)

select
    given.lead_id,
    given.run,
    given.number,
    given.envelope_id,
    coalesce(locked.state = 'sending', false) as is_sending
from given
left join locked
    on
        given.lead_id = locked.lead_id
        and given.run = locked.run
        and given.number = locked.number
        and given.envelope_id = locked.envelope_id
        and locked.day = %(day)s
where locked.state is null or locked.state <> 'planned'
order by given.lead_id, given.run, given.number, given.envelope_id;
