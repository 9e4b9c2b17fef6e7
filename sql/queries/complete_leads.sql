-- Complete ACTIVE leads that have had all their messages; used when a resumed lead has none left.
update hyperdrip.lead
set status = 'COMPLETED'
where
    id = any(%(lead_ids)s::bigint[])
    and status = 'ACTIVE'
    and message_count >= max_messages;
