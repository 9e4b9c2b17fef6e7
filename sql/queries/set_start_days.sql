-- Set the day before which leads do not go on; the leads are locked already.
update hyperdrip.lead as lead
set start_on = given.day
from unnest(%(lead_ids)s::bigint[], %(days)s::date[]) as given (lead_id, day)
where lead.id = given.lead_id;
