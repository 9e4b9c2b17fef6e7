-- One row: is any address suppressed at all?
select count(*) > 0 as has_suppressions
from (
    select email_key
    from hyperdrip.suppression
    order by email_key
    limit 1
) as found;
