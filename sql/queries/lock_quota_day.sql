-- Lock the counters of a day, so that the next statement reads what nobody can change.
select day
from hyperdrip.quota_day
where day = %(day)s
for no key update;
