-- Suppress the addresses of leads, each for the reason given; those that are suppressed already stay as they are.
insert into hyperdrip.suppression (email_key, reason)
select
    lower(lead.email) as email_key,
    given.reason
from unnest(%(lead_ids)s::bigint[], %(reasons)s::text[]) as given (lead_id, reason)
inner join hyperdrip.lead as lead on given.lead_id = lead.id
order by lower(lead.email)
on conflict (email_key) do nothing;
