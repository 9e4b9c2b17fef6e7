-- Lock the leads that a batch changes, by id.
select lead.id
from hyperdrip.lead as lead
where
    lead.id in (
        select staged.lead_id
        from hyperdrip.import_row as staged
        where staged.batch = %(batch)s and staged.fate in ('update', 'enroll')
    )
order by lead.id
for no key update;
