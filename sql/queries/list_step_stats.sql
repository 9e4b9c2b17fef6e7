-- What became of the messages of each step of a campaign (null: of all), over all versions and runs: campaign,
-- number, subject of the newest version, planned (or being sent), sent, failed, unknown, and how many leads
-- unsubscribed because of this one, or with it as their last if nobody knows; by campaign and number.
with newest as (
    select
        campaign.name,
        max(campaign.version) as version
    from hyperdrip.campaign as campaign
    where %(name)s::text is null or campaign.name = %(name)s::text
    group by campaign.name
),

counted as (
    select
        message.campaign,
        message.number,
        count(*) filter (where message.state in ('planned', 'sending')) as planned,
        count(*) filter (where message.state = 'sent') as sent,
        count(*) filter (where message.state = 'failed') as failed,
        count(*) filter (where message.state = 'unknown') as unknown
    from hyperdrip.message as message
    where %(name)s::text is null or message.campaign = %(name)s::text
    group by message.campaign, message.number
),

-- A link tells of its own message, which may be one of an earlier run, and so of another campaign.
last_read as (
    select
        coalesce(culprit.campaign, lead.campaign) as campaign,
        coalesce(culprit.number, (
            select max(message.number)
            from hyperdrip.message as message
            where
                message.lead_id = lead.id
                and message.run = lead.run
                and message.state in ('sent', 'unknown')
        )) as number
    from hyperdrip.lead as lead
    left join hyperdrip.message as culprit
        on
            lead.id = culprit.lead_id
            and lead.unsubscribed_run = culprit.run
            and lead.unsubscribed_number = culprit.number
    where
        (%(name)s::text is null or coalesce(culprit.campaign, lead.campaign) = %(name)s::text)
        and lead.status = 'STOPPED'
        and (culprit.number is not null or starts_with(lead.status_reason, 'unsubscribed'))
),

left_after as (
    select
        campaign,
        number,
        count(*) as unsubscribed
    from last_read
    where number is not null
    group by campaign, number
),

step as (
    select
        newest.name as campaign,
        campaign_step.number,
        campaign_step.subject
    from newest
    inner join hyperdrip.campaign_step as campaign_step
        on newest.name = campaign_step.campaign and newest.version = campaign_step.version
)

select
    coalesce(step.campaign, counted.campaign) as campaign,
    coalesce(step.number, counted.number) as number,
    step.subject,
    coalesce(counted.planned, 0) as planned,
    coalesce(counted.sent, 0) as sent,
    coalesce(counted.failed, 0) as failed,
    coalesce(counted.unknown, 0) as unknown,
    coalesce(left_after.unsubscribed, 0) as unsubscribed
from step
full join counted on step.campaign = counted.campaign and step.number = counted.number
left join left_after
    on
        left_after.campaign = coalesce(step.campaign, counted.campaign)
        and left_after.number = coalesce(step.number, counted.number)
order by coalesce(step.campaign, counted.campaign), coalesce(step.number, counted.number);
