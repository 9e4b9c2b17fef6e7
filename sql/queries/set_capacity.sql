-- Give a day its own capacity; null = the daily maximum again.
insert into hyperdrip.quota_day (day, capacity)
values (%(day)s, %(capacity)s)
on conflict (day) do update set capacity = excluded.capacity;
