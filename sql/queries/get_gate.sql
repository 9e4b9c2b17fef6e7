-- One row: may anything be claimed on this day? Room left under today's limit, messages waiting, whether
-- the instance is paused, and the newest day ever opened.
select
    coalesce(quota_day.capacity, instance.daily_max) - coalesce(quota_day.sent, 0) as room,
    coalesce(quota_day.reserved, 0) as waiting,
    instance.is_paused,
    instance.newest_day
from hyperdrip.instance
left join hyperdrip.quota_day on quota_day.day = %(day)s;
