-- Give leads that are there already what the file says of them: name, phone, notes and fields; what the
-- file leaves empty stays as it is.
update hyperdrip.lead as lead
set
    name = staged.name,
    phone = coalesce(staged.phone, lead.phone),
    notes = coalesce(staged.notes, lead.notes),
    fields = lead.fields || staged.fields
from hyperdrip.import_row as staged
where staged.batch = %(batch)s and staged.fate = 'update' and lead.id = staged.lead_id;
