-- Each day with its counters, and what the ledger says of it: day, reserved, planned rows, sent, rows that may
-- have left plus hand-overs given out again, highest limit at any claim, rows being sent, is it closed; by
-- day.
with counted as (
    select
        day,
        count(*) filter (where state = 'planned') as planned,
        count(*) filter (where state = 'sending') as sending,
        count(*) filter (where state in ('sending', 'sent', 'unknown')) as gone
    from hyperdrip.message
    where day is not null
    group by day
)

select
    coalesce(quota_day.day, counted.day) as day,
    coalesce(quota_day.reserved, 0) as reserved,
    coalesce(counted.planned, 0) as planned,
    coalesce(quota_day.sent, 0) as sent,
    coalesce(counted.gone, 0) + coalesce(quota_day.resent, 0) as gone,
    coalesce(quota_day.highest_cap, 0) as highest_cap,
    coalesce(counted.sending, 0) as sending,
    coalesce(quota_day.is_closed, false) as is_closed
from hyperdrip.quota_day
full join counted on quota_day.day = counted.day
order by 1;
