-- The server's clock at this very moment, not at the start of the transaction.
select clock_timestamp() as server_now;
