-- One row: how many leads are ACTIVE or PAUSED in a campaign on a version before the given one.
select count(*) as leads
from hyperdrip.lead
where
    campaign = %(name)s
    and campaign_version < %(version)s
    and status in ('ACTIVE', 'PAUSED');
