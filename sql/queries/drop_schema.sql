-- Drop every table of Hyperdrip with its data. Queues are dropped one by one before.
drop schema if exists hyperdrip cascade;
