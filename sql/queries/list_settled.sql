-- Of the given messages, those that still carry the token they were claimed with: lead, run, number,
-- state; by lead, run and number. Asked when the reply to a finish was lost.
select
    message.lead_id,
    message.run,
    message.number,
    message.state
from hyperdrip.message as message
inner join unnest(
    %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(tokens)s::integer[]
) as given (lead_id, run, number, token)
    on
        message.lead_id = given.lead_id
        and message.run = given.run
        and message.number = given.number
        and message.token = given.token
order by message.lead_id, message.run, message.number;
