-- Mark unknown messages as sent at the time they were claimed, and move the last sending of their leads, which
-- are locked, forward. One row: how many messages.
with marked as (
    update hyperdrip.message as message
    set
        state = 'sent',
        sent_at = coalesce(message.sent_at, message.claimed_at),
        error = null
    from unnest(%(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[])
        as given (lead_id, run, number)
    where
        message.lead_id = given.lead_id
        and message.run = given.run
        and message.number = given.number
        and message.state = 'unknown'
    returning message.lead_id, message.run, message.sent_at
),

latest as (
    select
        lead_id,
        run,
        max(sent_at) as sent_at
    from marked
    group by lead_id, run
),

moved as (
    update hyperdrip.lead as lead
    set last_sent_at = greatest(lead.last_sent_at, latest.sent_at)
    from latest
    where lead.id = latest.lead_id and lead.run = latest.run
)

select count(*) as messages
from marked;
