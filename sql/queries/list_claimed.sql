-- Messages that a worker holds right now, with what a sender needs; by lead, run and number. It asks this
-- when the reply to a claim was lost.
select
    message.lead_id,
    message.run,
    message.number,
    message.envelope_id,
    message.token,
    message.attempts,
    message.day,
    lead.email,
    lead.name,
    lead.fields,
    message.campaign,
    message.campaign_version,
    lead.message_count,
    lead.max_messages,
    coalesce(message.first_claimed_at, message.claimed_at) as first_claimed_at
from hyperdrip.message as message
inner join hyperdrip.lead as lead on message.lead_id = lead.id
where
    message.lead_id = any(%(lead_ids)s::bigint[])
    and message.state = 'sending'
    and message.worker = %(worker)s
order by message.lead_id, message.run, message.number;
