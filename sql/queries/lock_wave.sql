-- Lock the messages that envelopes point at: lead, run, number, envelope, day, state, token, attempts,
-- sender; by lead, run and number.
select
    message.lead_id,
    message.run,
    message.number,
    message.envelope_id,
    message.day,
    message.state,
    message.token,
    message.attempts,
    message.sender
from hyperdrip.message as message
inner join unnest(
    %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[]
) as given (lead_id, run, number)
    on
        message.lead_id = given.lead_id
        and message.run = given.run
        and message.number = given.number
order by message.lead_id, message.run, message.number
for no key update of message;
