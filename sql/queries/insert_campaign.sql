-- Store the next version of a campaign, paused if the newest one is; one row: its version.
insert into hyperdrip.campaign (name, version, settings, is_paused, created_at)
select
    %(name)s as name,
    coalesce(max(campaign.version), 0) + 1 as version,
    %(settings)s::jsonb as settings,
    coalesce((array_agg(campaign.is_paused order by campaign.version desc))[1], false) as is_paused,
    %(now)s as created_at
from hyperdrip.campaign as campaign
where campaign.name = %(name)s
returning version;
