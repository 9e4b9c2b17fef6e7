-- The delay in days before each step of a campaign: number, days; by number.
select
    number,
    delay_days
from hyperdrip.campaign_step
where campaign = %(campaign)s and version = %(version)s
order by number;
