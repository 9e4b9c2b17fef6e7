-- Make rows for days that have none, in the order of the days.
insert into hyperdrip.quota_day (day)
select distinct given.day
from unnest(%(days)s::date[]) as given (day)
order by given.day
on conflict (day) do nothing;
