-- The staged rows of a batch that were not taken, with the reason; by line.
select
    line,
    email,
    phone,
    cells,
    fate,
    culprit,
    reason
from hyperdrip.import_row
where batch = %(batch)s and fate in ('duplicate', 'suppressed', 'rejected')
order by line;
