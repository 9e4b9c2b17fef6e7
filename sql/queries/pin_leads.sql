-- Pin leads that are locked, and their planned messages, locked as well, to a version of their campaign; one
-- row each: id, how many messages; by id.
with pinned as (
    update hyperdrip.lead
    set campaign_version = %(version)s
    where
        id = any(%(lead_ids)s::bigint[])
        and campaign = %(name)s
        and status in ('ACTIVE', 'PAUSED')
    returning id, run
),

pinned_messages as (
    update hyperdrip.message as message
    set campaign_version = %(version)s
    from pinned
    where
        message.lead_id = pinned.id
        and message.run = pinned.run
        and message.campaign = %(name)s
        and message.state = 'planned'
    returning message.lead_id
)

select
    pinned.id,
    count(pinned_messages.lead_id) as messages
from pinned
left join pinned_messages on pinned.id = pinned_messages.lead_id
group by pinned.id
order by pinned.id;
