-- Workers that were seen within the last minute and did not stop: id, host, pid, sender; by id.
select
    id,
    host,
    pid,
    sender
from hyperdrip.worker
where stopped_at is null and last_seen_at > clock_timestamp() - make_interval(secs => 60)
order by id;
