-- One row: how many rows of a batch have an address that nobody has yet, or with `enroll` that of a lead
-- that is not under way; addresses that are there twice count twice.
select count(*) as rows
from hyperdrip.import_row as staged
left join hyperdrip.lead as known on staged.email_key = lower(known.email)
where
    staged.batch = %(batch)s
    and (known.id is null or (%(existing)s = 'enroll' and known.status not in ('ACTIVE', 'PAUSED')));
