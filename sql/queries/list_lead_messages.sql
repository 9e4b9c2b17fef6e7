-- The messages of leads in their present runs; by lead and number.
select
    message.lead_id,
    lead.email,
    message.campaign,
    message.run,
    message.number,
    message.day,
    message.state,
    message.attempts,
    message.sender,
    message.sent_at,
    message.error,
    message.claimed_at,
    message.not_before,
    message.provider_id,
    message.token
from hyperdrip.message as message
inner join hyperdrip.lead as lead on message.lead_id = lead.id and message.run = lead.run
where message.lead_id = any(%(lead_ids)s::bigint[])
order by message.lead_id, message.number;
