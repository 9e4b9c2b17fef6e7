-- Messages with a given state, day or lead or all; by day (those without one last), lead and number.
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
inner join hyperdrip.lead as lead on message.lead_id = lead.id
where
    (%(state)s::text is null or message.state = %(state)s)
    and (%(day)s::date is null or message.day = %(day)s)
    and (%(lead_id)s::bigint is null or message.lead_id = %(lead_id)s)
order by message.day, message.lead_id, message.run, message.number
limit %(limit)s;
