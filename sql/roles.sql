-- What each of three roles may do, and nothing else: %(planner)s plans, %(worker)s sends, %(reader)s looks.
-- None of them can log in, nor make or change a table: grant them to users who can log in.
select
    hyperdrip.make_role(%(planner_name)s) as planner,
    hyperdrip.make_role(%(worker_name)s) as worker,
    hyperdrip.make_role(%(reader_name)s) as reader;

delete from hyperdrip.role;
insert into hyperdrip.role (kind, name)
values ('planner', %(planner_name)s), ('worker', %(worker_name)s), ('reader', %(reader_name)s);

-- Whatever was granted before and is not granted here ends here.
revoke all on all tables in schema hyperdrip from %(planner)s, %(worker)s, %(reader)s;
revoke all on all sequences in schema hyperdrip from %(planner)s, %(worker)s, %(reader)s;

grant usage on schema hyperdrip, pgmq to %(planner)s, %(worker)s, %(reader)s;
grant select on pgmq.meta to %(planner)s, %(worker)s, %(reader)s;
grant select on
hyperdrip.campaign, hyperdrip.campaign_step, hyperdrip.domain_pace, hyperdrip.message, hyperdrip.quota_day,
hyperdrip.receipt, hyperdrip.schema_migration, hyperdrip.suppression, hyperdrip.worker
to %(planner)s, %(worker)s, %(reader)s;
grant execute on function hyperdrip.suppression_keys(text) to %(planner)s, %(worker)s, %(reader)s;

-- A reader sees all but the key of the hashed addresses, and rows of files that are being imported.
grant select on hyperdrip.lead, hyperdrip.lead_import to %(reader)s;
grant select (
    only_row, environment, time_zone, daily_max, is_paused, newest_day, last_sender, fingerprint, created_at
) on hyperdrip.instance to %(worker)s, %(reader)s;

-- A worker claims, settles and rolls over. It adds no lead and no message, and reads no phone number, no
-- notes and no consent.
grant select (
    id, name, email, fields, campaign, campaign_version, run, max_messages, message_count, last_sent_at,
    status, status_reason, start_on, created_at
) on hyperdrip.lead to %(worker)s;
grant update (message_count, last_sent_at, status, status_reason)
on hyperdrip.lead to %(worker)s;
grant update (
    day, envelope_id, state, token, attempts, not_before, sender, worker, claimed_at, first_claimed_at, sent_at, error,
    provider_id
) on hyperdrip.message to %(worker)s;
grant insert (day), update (reserved, sent, resent, highest_cap, is_closed)
on hyperdrip.quota_day to %(worker)s;
grant insert, update on hyperdrip.worker to %(worker)s;
grant insert, delete on hyperdrip.receipt to %(worker)s;
grant insert (domain), update (free_at, line_ends_at) on hyperdrip.domain_pace to %(worker)s;
grant insert (email_key, reason) on hyperdrip.suppression to %(worker)s;
grant update (daily_max, newest_day, last_sender) on hyperdrip.instance to %(worker)s;
grant execute on function hyperdrip.create_queue(text), hyperdrip.list_hash_suppressed(bigint[]) to %(worker)s;

-- A planner adds, imports, moves, stops, erases, reconciles, prunes and sets limits. It neither unlocks a copy
-- nor migrates.
grant select on hyperdrip.instance, hyperdrip.lead, hyperdrip.lead_import to %(planner)s;
grant insert, update, delete on
hyperdrip.campaign, hyperdrip.campaign_step, hyperdrip.lead, hyperdrip.lead_import, hyperdrip.message,
hyperdrip.quota_day, hyperdrip.receipt, hyperdrip.suppression
to %(planner)s;
grant select, insert, update, delete on hyperdrip.import_batch, hyperdrip.import_row to %(planner)s;
grant usage on sequence hyperdrip.lead_id_seq to %(planner)s;
grant update (daily_max, is_paused, newest_day, last_sender) on hyperdrip.instance to %(planner)s;
grant execute on function hyperdrip.create_queue(text), hyperdrip.drop_queue(text) to %(planner)s;

-- Queues that are there already; later ones are granted as they are made.
select hyperdrip.grant_queue(meta.queue_name)
from pgmq.meta
where meta.queue_name ~ '^(test-)?drip-messages-[0-9]{4}-[0-9]{2}-[0-9]{2}$'
order by meta.queue_name;
