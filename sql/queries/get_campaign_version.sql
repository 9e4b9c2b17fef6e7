-- One row if the campaign exists: its newest version, and how many steps that has.
select
    newest.version,
    (
        select count(*)::integer
        from hyperdrip.campaign_step as step
        where step.campaign = %(name)s and step.version = newest.version
    ) as steps
from (
    select max(campaign.version) as version
    from hyperdrip.campaign as campaign
    where campaign.name = %(name)s
) as newest
where newest.version is not null;
