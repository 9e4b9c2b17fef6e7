-- Insert the new leads of a batch, each with the first day of its block; blocks are given as the last
-- position and the first day of each.
insert into hyperdrip.lead (
    id, name, email, phone, notes, fields, import_id,
    campaign, campaign_version, max_messages, next_scheduled_for, start_on, created_at
)
overriding system value
select
    staged.lead_id,
    staged.name,
    staged.email,
    staged.phone,
    staged.notes,
    staged.fields,
    %(import_id)s::bigint,
    %(campaign)s::text,
    %(campaign_version)s::integer,
    %(max_messages)s::integer,
    block.first_day,
    %(start_on)s::date,
    %(now)s::timestamptz
from unnest(
    %(firsts)s::integer[], %(lasts)s::integer[], %(first_days)s::date[]
) as block (first, last, first_day)
inner join hyperdrip.import_row as staged
    on staged.batch = %(batch)s and staged.position between block.first and block.last
where staged.fate = 'new'
order by staged.position;
