-- Lock the counters of a day unless somebody else has: one row if they are locked now, or none.
select day
from hyperdrip.quota_day
where day = %(day)s
for no key update skip locked;
