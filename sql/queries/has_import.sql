-- One row if there is such an import.
select id
from hyperdrip.lead_import
where id = %(import_id)s;
