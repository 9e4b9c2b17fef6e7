-- Leads by id, with a given status or campaign or all.
select
    lead.id,
    lead.name,
    lead.email,
    lead.phone,
    lead.notes,
    lead.fields,
    lead.campaign,
    lead.campaign_version,
    lead.run,
    lead.max_messages,
    lead.message_count,
    lead.last_sent_at,
    (
        select message.day
        from hyperdrip.message as message
        where
            message.lead_id = lead.id
            and message.run = lead.run
            and message.state in ('planned', 'sending')
        order by message.number
        limit 1
    ) as next_scheduled_for,
    lead.status,
    lead.status_reason,
    lead.created_at
from hyperdrip.lead as lead
where
    (%(status)s::text is null or lead.status = %(status)s)
    and (%(campaign)s::text is null or lead.campaign = %(campaign)s)
order by lead.id
limit %(limit)s;
