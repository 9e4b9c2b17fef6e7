-- Leads whose own columns disagree with the ledger: id and what is wrong; by id.
with counted as (
    select
        lead_id,
        run,
        count(*) as total,
        count(*) filter (where state in ('sent', 'unknown')) as settled,
        count(*) filter (where state = 'planned' and day is not null) as dated,
        count(*) filter (where state = 'planned' and day is null) as dateless,
        count(*) filter (where state = 'sending') as sending
    from hyperdrip.message
    group by lead_id, run
)

select
    lead.id,
    concat_ws(
        ', ',
        case
            when counted.lead_id is null then 'has no messages'
        end,
        case
            when counted.total <> lead.max_messages
                then counted.total || ' ledger rows for ' || lead.max_messages || ' messages'
        end,
        case
            when counted.settled <> lead.message_count
                then 'message count ' || lead.message_count || ' and ' || counted.settled || ' settled'
        end,
        case
            when lead.status <> 'ACTIVE' and counted.dated > 0
                then lead.status || ' with ' || counted.dated || ' messages planned'
        end,
        case
            when lead.status <> 'PAUSED' and counted.dateless > 0
                then lead.status || ' with ' || counted.dateless || ' messages without a day'
        end,
        case
            when lead.status = 'ACTIVE' and counted.dated + counted.sending = 0
                then 'ACTIVE with nothing left to send'
        end,
        case
            when lead.status = 'COMPLETED' and lead.message_count < lead.max_messages
                then 'COMPLETED with ' || lead.message_count || ' of ' || lead.max_messages
        end
    ) as fault
from hyperdrip.lead as lead
left join counted on lead.id = counted.lead_id and lead.run = counted.run
where
    counted.lead_id is null
    or counted.total <> lead.max_messages
    or counted.settled <> lead.message_count
    or (lead.status <> 'ACTIVE' and counted.dated > 0)
    or (lead.status <> 'PAUSED' and counted.dateless > 0)
    or (lead.status = 'ACTIVE' and counted.dated + counted.sending = 0)
    or (lead.status = 'COMPLETED' and lead.message_count < lead.max_messages)
order by lead.id;
