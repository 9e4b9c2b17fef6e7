-- Count claimed messages against the quota of their day, whose row is locked, and note the limit they were claimed
-- under.
update hyperdrip.quota_day
set
    reserved = quota_day.reserved - %(claimed)s::integer,
    sent = quota_day.sent + %(claimed)s::integer,
    highest_cap = greatest(quota_day.highest_cap, %(cap)s::integer)
where quota_day.day = %(day)s;
