-- Set the next day of leads from the ledger: the first day on which one of their messages is planned
-- or being sent.
update hyperdrip.lead as lead
set next_scheduled_for = (
    select min(message.day)
    from hyperdrip.message
    where
        message.lead_id = lead.id
        and message.run = lead.run
        and message.state in ('planned', 'sending')
)
where lead.id = any(%(lead_ids)s::bigint[]);
