-- Leads ACTIVE or PAUSED in a campaign on a version before the given one, with an id above the given one: id,
-- version, name, address, fields, and the numbers of their planned messages in order; by id.
select
    lead.id,
    lead.campaign_version,
    lead.name,
    lead.email,
    lead.fields,
    array(
        select message.number
        from hyperdrip.message as message
        where message.lead_id = lead.id and message.run = lead.run and message.state = 'planned'
        order by message.number
    ) as numbers
from hyperdrip.lead as lead
where
    lead.id > %(after)s
    and lead.campaign = %(name)s
    and lead.campaign_version < %(version)s
    and lead.status in ('ACTIVE', 'PAUSED')
order by lead.id
limit %(limit)s;
