-- Lock the messages of leads that could be claimed or moved: lead, run, number, day, envelope, end of
-- the backoff; by lead, run and number. Messages that are being sent are left out.
select
    lead_id,
    run,
    number,
    day,
    envelope_id,
    not_before
from hyperdrip.message
where lead_id = any(%(lead_ids)s::bigint[]) and state = 'planned'
order by lead_id, run, number
for no key update;
