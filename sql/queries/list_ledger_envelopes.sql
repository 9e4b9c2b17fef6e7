-- What the ledger says of envelopes: day, envelope, lead, run, number, state; by day and envelope.
select
    day,
    envelope_id,
    lead_id,
    run,
    number,
    state
from hyperdrip.message
where day is not null and envelope_id is not null
order by day, envelope_id;
