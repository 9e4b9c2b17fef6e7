-- Messages that come on or before the day of the one before them: lead, run, number, day; by lead, run
-- and number.
with neighbours as (
    select
        lead_id,
        run,
        number,
        day,
        state,
        lag(day) over (partition by lead_id, run order by number) as day_before
    from hyperdrip.message
    where day is not null and state in ('planned', 'sending', 'sent', 'unknown')
)

select
    lead_id,
    run,
    number,
    day
from neighbours
where state = 'planned' and day <= day_before
order by lead_id, run, number;
