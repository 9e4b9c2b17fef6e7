-- Leads with the given ids, by id.
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
where id = any(%(lead_ids)s::bigint[])
order by id;
