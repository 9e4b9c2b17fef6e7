-- Leads by id, with a given status or campaign or all.
select
    id,
    name,
    email,
    phone,
    notes,
    fields,
    campaign,
    campaign_version,
    run,
    max_messages,
    message_count,
    last_sent_at,
    next_scheduled_for,
    status,
    status_reason,
    created_at
from hyperdrip.lead
where
    (%(status)s::text is null or status = %(status)s)
    and (%(campaign)s::text is null or campaign = %(campaign)s)
order by id
limit %(limit)s;
