-- One row if something is planned after the given day: the first such day and how many.
select
    day,
    reserved
from hyperdrip.quota_day
where day > %(day)s and reserved > 0
order by day
limit 1;
