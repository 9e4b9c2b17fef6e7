-- When a message was first claimed: its Date, the same at every attempt.
alter table hyperdrip.message add column first_claimed_at timestamptz;
