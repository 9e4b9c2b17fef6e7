-- Workers that were seen within the last minute and did not stop: host, pid, sender, start, seconds since
-- they were seen; by id.
select
    host,
    pid,
    sender,
    started_at,
    extract(epoch from clock_timestamp() - last_seen_at)::integer as seen_seconds
from hyperdrip.worker
where stopped_at is null and last_seen_at > clock_timestamp() - make_interval(secs => 60)
order by id;
