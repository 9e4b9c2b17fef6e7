-- The Date of a message is that of its first attempt, at every attempt. Most have one attempt alone, and then
-- nothing is written here.
alter table hyperdrip.message add column first_claimed_at timestamptz;
comment on column hyperdrip.message.first_claimed_at is
'when it was claimed for its first attempt; null as long as claimed_at is that';
