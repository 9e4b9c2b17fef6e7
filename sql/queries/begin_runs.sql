-- Begin a new run for leads that are locked, each with the day of its first message; one row each: id,
-- address, run; by id.
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
        start_on = %(start_on)s::date,
        next_scheduled_for = given.first_day
    from unnest(%(lead_ids)s::bigint[], %(first_days)s::date[]) as given (lead_id, first_day)
    where lead.id = given.lead_id
    returning lead.id, lead.email, lead.run
)

select
    id,
    email,
    run
from begun
order by id;
