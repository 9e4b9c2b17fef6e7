-- Begin a new run for leads that are locked; one row each: id, address, run; by id.
with begun as (
    update hyperdrip.lead as lead
    set
        run = lead.run + 1,
        status = 'ACTIVE',
        status_reason = null,
        message_count = 0,
        campaign = %(campaign)s::text,
        campaign_version = %(campaign_version)s::integer,
        max_messages = %(max_messages)s::integer,
        start_on = %(start_on)s::date
    where lead.id = any(%(lead_ids)s::bigint[])
    returning lead.id, lead.email, lead.run
)

select
    id,
    email,
    run
from begun
order by id;
