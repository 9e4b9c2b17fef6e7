-- Count claimed messages against the quota of their day, whose row is locked, and note the limit in force: one row if
-- the day has room for them still, and nothing has paused or ended it since; otherwise none.
update hyperdrip.quota_day
set
    reserved = quota_day.reserved - %(claimed)s::integer,
    sent = quota_day.sent + %(claimed)s::integer,
    highest_cap = greatest(quota_day.highest_cap, coalesce(quota_day.capacity, instance.daily_max))
from hyperdrip.instance
where
    quota_day.day = %(day)s
    and quota_day.sent + %(claimed)s::integer <= coalesce(quota_day.capacity, instance.daily_max)
    and not instance.is_paused
    and instance.newest_day = %(day)s
    and (%(now)s::timestamptz at time zone instance.time_zone)::date = %(day)s
returning quota_day.day;
