-- The steps of a campaign's version: number, delay in days, subject, preheader, Markdown, plain text; by
-- number.
select
    number,
    delay_days,
    subject,
    preheader,
    markdown,
    plain_text
from hyperdrip.campaign_step
where campaign = %(name)s and version = %(version)s
order by number;
