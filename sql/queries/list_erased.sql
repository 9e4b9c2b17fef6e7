-- Those of the given leads that are erased already; ids, in order.
select id
from hyperdrip.lead
where id = any(%(lead_ids)s::bigint[]) and email = 'erased-' || id || '@invalid'
order by id;
