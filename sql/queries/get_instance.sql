-- The instance row, and the newest migration that was applied.
select
    environment,
    time_zone,
    daily_max,
    is_paused,
    newest_day,
    last_sender
from hyperdrip.instance;
