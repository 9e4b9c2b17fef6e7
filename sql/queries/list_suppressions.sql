-- Suppressed addresses that contain a text (null: all), the newest first: address (or keyed hash), reason, and
-- since when.
select
    email_key,
    reason,
    created_at
from hyperdrip.suppression
where %(part)s::text is null or position(lower(%(part)s::text) in email_key) > 0
order by created_at desc, email_key asc
limit %(limit)s;
