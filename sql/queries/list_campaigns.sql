-- Each campaign with its newest version: its steps, paused or not, when it was stored; and of its leads how
-- many there are, how many are under way, and how many of these are on an older version; by name.
with newest as (
    select distinct on (name)
        name,
        version,
        is_paused,
        created_at
    from hyperdrip.campaign
    order by name asc, version desc
),

used as (
    select
        lead.campaign,
        lead.campaign_version,
        count(*) as leads,
        count(*) filter (where lead.status in ('ACTIVE', 'PAUSED')) as under_way
    from hyperdrip.lead as lead
    group by lead.campaign, lead.campaign_version
)

select
    newest.name,
    newest.version,
    (
        select count(*)
        from hyperdrip.campaign_step as step
        where step.campaign = newest.name and step.version = newest.version
    ) as steps,
    newest.is_paused,
    newest.created_at,
    coalesce(sum(used.leads), 0)::bigint as leads,
    coalesce(sum(used.under_way), 0)::bigint as under_way,
    coalesce(sum(used.under_way) filter (where used.campaign_version < newest.version), 0)::bigint as on_older
from newest
left join used on newest.name = used.campaign
group by newest.name, newest.version, newest.is_paused, newest.created_at
order by newest.name;
