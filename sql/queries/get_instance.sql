-- The instance row.
select
    environment,
    time_zone,
    daily_max,
    is_paused,
    newest_day,
    last_sender
from hyperdrip.instance;
