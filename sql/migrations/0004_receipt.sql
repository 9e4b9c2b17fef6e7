-- Receipts: a planner transaction leaves one, so that whoever lost the reply to its COMMIT can ask whether it
-- was done. The status of a transaction id would not do: after a crash or a failover another transaction may
-- have been given the same id.
create table hyperdrip.receipt (
    token uuid primary key,
    written_at timestamptz not null default now()
);
comment on table hyperdrip.receipt is
'committed planner transactions of the last minutes, for those who lost the reply';
