-- The heartbeat of a worker; with stopped, its last one.
update hyperdrip.worker
set
    last_seen_at = clock_timestamp(),
    stopped_at = case when %(is_stopped)s then clock_timestamp() end
where id = %(worker_id)s;
