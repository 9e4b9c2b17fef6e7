-- Take the planner lock until the end of the transaction. A statement of its own, so that whatever
-- is read next has a fresh snapshot.
select pg_advisory_xact_lock(hashtextextended('hyperdrip.planner', 0));
