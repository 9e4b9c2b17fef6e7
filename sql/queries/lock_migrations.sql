-- Take the migration lock until the end of the transaction.
select pg_advisory_xact_lock(hashtextextended('hyperdrip.migrations', 0));
