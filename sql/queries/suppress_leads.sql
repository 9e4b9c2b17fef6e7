-- Suppress the addresses of leads, for the reason given; those that are suppressed already stay as they are.
insert into hyperdrip.suppression (email_key, reason)
select
    lower(lead.email) as email_key,
    %(reason)s::text as reason
from hyperdrip.lead as lead
where lead.id = any(%(lead_ids)s::bigint[])
order by lower(lead.email)
on conflict (email_key) do nothing;
