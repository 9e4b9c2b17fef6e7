-- Lock the counters of days, so that the next statement reads what nobody can change; by day.
select day
from hyperdrip.quota_day
where day = any(%(days)s::date[])
order by day
for no key update;
