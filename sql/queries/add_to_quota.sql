-- Add to the counters of days, locking the rows by day. A day that gets a reservation is open again.
with held as (
    select quota_day.day
    from hyperdrip.quota_day
    where quota_day.day = any(%(days)s::date[])
    order by quota_day.day
    for no key update
)

update hyperdrip.quota_day
set
    reserved = quota_day.reserved + given.reserved,
    sent = quota_day.sent + given.sent,
    resent = quota_day.resent + given.resent,
    is_closed = quota_day.is_closed and given.reserved <= 0
from unnest(
    %(days)s::date[], %(reserved)s::integer[], %(sent)s::integer[], %(resent)s::integer[]
) as given (day, reserved, sent, resent)
inner join held on given.day = held.day
where quota_day.day = held.day;
