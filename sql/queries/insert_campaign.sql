-- Store the next version of a campaign, paused if the newest one is; one row: its version.
insert into hyperdrip.campaign (name, version, settings, is_paused, created_at)
select
    %(name)s as campaign_name,
    coalesce(max(campaign.version), 0) + 1 as next_version,
    %(settings)s::jsonb as new_settings,
    coalesce((array_agg(campaign.is_paused order by campaign.version desc))[1], false) as stays_paused,
    %(now)s as stored_at
from hyperdrip.campaign as campaign
where campaign.name = %(name)s
returning version;
