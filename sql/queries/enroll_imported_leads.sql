-- Begin a new run for the leads of a batch that are enrolled again; blocks as for new leads.
update hyperdrip.lead as lead
set
    run = staged.run,
    status = 'ACTIVE',
    status_reason = null,
    message_count = 0,
    campaign = %(campaign)s::text,
    campaign_version = %(campaign_version)s::integer,
    max_messages = %(max_messages)s::integer,
    import_id = %(import_id)s::bigint,
    next_scheduled_for = block.first_day,
    start_on = %(start_on)s::date
from unnest(
    %(firsts)s::integer[], %(lasts)s::integer[], %(first_days)s::date[]
) as block (first, last, first_day)
inner join hyperdrip.import_row as staged
    on staged.batch = %(batch)s and staged.position between block.first and block.last
where staged.fate = 'enroll' and lead.id = staged.lead_id;
