-- One row: is this server a standby, which takes no writes?
select pg_is_in_recovery() as is_standby;
