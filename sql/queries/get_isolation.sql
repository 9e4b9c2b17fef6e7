-- One row: the isolation level of this transaction, and the pid of the process that answers.
select
    current_setting('transaction_isolation') as level,
    pg_backend_pid() as server_pid;
