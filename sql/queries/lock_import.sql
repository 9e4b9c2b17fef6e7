-- Lock the record of an import; one row: when it was undone, or null.
select undone_at
from hyperdrip.lead_import
where id = %(import_id)s
for no key update;
