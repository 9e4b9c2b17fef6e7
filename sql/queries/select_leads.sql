-- The leads of a selection; ids, in order. What is null narrows nothing.
select lead.id
from hyperdrip.lead as lead
where
    (%(lead_ids)s::bigint[] is null or lead.id = any(%(lead_ids)s::bigint[]))
    and (%(status)s::text is null or lead.status = %(status)s)
    and (%(campaign)s::text is null or lead.campaign = %(campaign)s)
    and (%(import_id)s::bigint is null or lead.import_id = %(import_id)s)
    and not exists (
        select 1
        from unnest(%(names)s::text[], %(values)s::text[]) as wanted (name, value)
        where lead.fields ->> wanted.name is distinct from wanted.value
    )
order by lead.id;
