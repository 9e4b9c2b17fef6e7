-- Insert the new leads of a batch, in the order of the file.
insert into hyperdrip.lead (
    id, name, email, phone, notes, fields, import_id,
    campaign, campaign_version, max_messages, start_on, created_at
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
    %(start_on)s::date,
    %(now)s::timestamptz
from hyperdrip.import_row as staged
where staged.batch = %(batch)s and staged.fate = 'new'
order by staged.position;
