-- One lead, by id or by address in any letter case.
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
where id = %(lead_id)s::bigint or lower(email) = lower(%(email)s::text);
