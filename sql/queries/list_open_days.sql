-- Days before the given one that are not closed yet, by day.
select day
from hyperdrip.quota_day
where day < %(today)s and not is_closed
order by day;
