-- Messages of envelopes of a day, given as spans of ids, that a worker holds right now, with what a sender needs; by
-- envelope. It asks this when the reply to a claim was lost.
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
    lead.fields::text as lead_fields,
    message.campaign,
    message.campaign_version,
    lead.message_count,
    lead.max_messages,
    coalesce(message.first_claimed_at, message.claimed_at) as first_claimed_at
from unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) as span (first, last)
cross join lateral (
    select message.*
    from hyperdrip.message as message
    where
        message.day = %(day)s
        and message.envelope_id between span.first and span.last
        and message.state = 'sending'
        and message.worker = %(worker)s
    offset 0
) as message
cross join lateral (
    select
        lead.email,
        lead.name,
        lead.fields,
        lead.message_count,
        lead.max_messages
    from hyperdrip.lead as lead
    where lead.id = message.lead_id
    offset 0
) as lead
order by message.envelope_id;
