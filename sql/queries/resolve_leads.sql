-- Which leads keys stand for: position of the key, id or null; by position. A key is an id, or an address
-- in any letter case.
select
    given.position,
    coalesce(by_id.id, by_email.id) as lead_id
from unnest(%(lead_ids)s::bigint[], %(emails)s::text[])
    with ordinality as given (lead_id, email, position)
left join hyperdrip.lead as by_id on given.lead_id = by_id.id
left join hyperdrip.lead as by_email on lower(given.email) = lower(by_email.email)
order by given.position;
