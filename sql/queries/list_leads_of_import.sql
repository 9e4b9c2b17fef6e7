-- The leads of an import, by id.
select id
from hyperdrip.lead
where import_id = %(import_id)s
order by id;
