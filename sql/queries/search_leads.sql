-- Leads with a text in their name, address, notes or fields, in any letter case, or with its digits in
-- their phone when it could be a part of one; by id. Digits written after 00 are those after a +.
with wanted as (
    select
        lower(%(text)s::text) as words,
        case
            when %(text)s::text ~ '^[0-9 ()+./-]+$'
                then nullif(regexp_replace(regexp_replace(%(text)s::text, '[^0-9]', '', 'g'), '^00', ''), '')
        end as digits
)

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
cross join wanted
where
    strpos(lower(lead.name), wanted.words) > 0
    or strpos(lower(lead.email), wanted.words) > 0
    or strpos(lower(lead.notes), wanted.words) > 0
    or strpos(hyperdrip.phone_key(lead.phone), wanted.digits) > 0
    or exists (
        select 1
        from jsonb_each_text(lead.fields) as pair (name, value)
        where strpos(lower(pair.value), wanted.words) > 0
    )
order by lead.id
limit %(limit)s;
