-- Begin a new run for the leads of a batch that are enrolled again.
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
    start_on = %(start_on)s::date
from hyperdrip.import_row as staged
where staged.batch = %(batch)s and staged.fate = 'enroll' and lead.id = staged.lead_id;
