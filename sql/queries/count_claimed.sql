-- Count claimed messages against the quota of their day, whose row is locked then, and note the limit in force. One
-- row: was the day locked (not if somebody else had it locked, who is not waited for), and were they counted: only if
-- the day has room for them, and was neither paused nor over when this statement began.
with locked as materialized (
    select quota_day.day
    from hyperdrip.quota_day
    where quota_day.day = %(day)s
    for no key update skip locked
),

counted as (
    update hyperdrip.quota_day
    set
        reserved = quota_day.reserved - %(claimed)s::integer,
        sent = quota_day.sent + %(claimed)s::integer,
        highest_cap = greatest(quota_day.highest_cap, coalesce(quota_day.capacity, instance.daily_max))
    from hyperdrip.instance
    where
        quota_day.day = (select locked.day from locked)
        and quota_day.sent + %(claimed)s::integer <= coalesce(quota_day.capacity, instance.daily_max)
        and not instance.is_paused
        and instance.newest_day = %(day)s
        and (%(now)s::timestamptz at time zone instance.time_zone)::date = %(day)s
    returning quota_day.day
)

select
    (select count(*) from locked) > 0 as is_locked,
    (select count(*) from counted) > 0 as is_counted;
