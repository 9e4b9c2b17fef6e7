-- One row: is this server a standby, which takes no writes; and the pid of the process that answers.
select
    pg_is_in_recovery() as is_standby,
    pg_backend_pid() as server_pid;
