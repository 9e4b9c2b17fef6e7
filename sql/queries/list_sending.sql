-- Messages of a day that are being sent, or whose worker died: lead, run, number, envelope; by lead, run and
-- number.
select
    lead_id,
    run,
    number,
    envelope_id
from hyperdrip.message
where day = %(day)s and state = 'sending'
order by lead_id, run, number;
