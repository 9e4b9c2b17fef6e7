-- Lock those of the given messages that are being sent under this very envelope: lead, run, number, token,
-- attempts, sender, day, envelope; by lead, run and number.
select
    message.lead_id,
    message.run,
    message.number,
    message.token,
    message.attempts,
    message.sender,
    message.day,
    message.envelope_id
from hyperdrip.message as message
inner join unnest(
    %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(envelope_ids)s::bigint[]
) as given (lead_id, run, number, envelope_id)
    on
        message.lead_id = given.lead_id
        and message.run = given.run
        and message.number = given.number
        and message.envelope_id = given.envelope_id
where message.state = 'sending' and message.day = %(day)s
order by message.lead_id, message.run, message.number
for no key update of message;
