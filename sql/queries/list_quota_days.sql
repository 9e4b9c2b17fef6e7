-- Days of the calendar in a range: day, its own capacity or null, reserved, sent; by day.
select
    day,
    capacity,
    reserved,
    sent
from hyperdrip.quota_day
where day >= %(first_day)s and (%(last_day)s::date is null or day <= %(last_day)s)
order by day;
