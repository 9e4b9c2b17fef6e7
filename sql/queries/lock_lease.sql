-- Lock the messages that are still ours, to extend their visibility: envelope; by lead, run and number.
select message.envelope_id
from hyperdrip.message as message
inner join unnest(
    %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(tokens)s::integer[]
) as given (lead_id, run, number, token)
    on
        message.lead_id = given.lead_id
        and message.run = given.run
        and message.number = given.number
        and message.token = given.token
where message.state = 'sending'
order by message.lead_id, message.run, message.number
for no key update of message;
