-- Write the instance row if there is none; does nothing else.
insert into hyperdrip.instance (environment, time_zone, daily_max, fingerprint)
values (%(environment)s, %(time_zone)s, %(daily_max)s, %(fingerprint)s)
on conflict (only_row) do nothing;
