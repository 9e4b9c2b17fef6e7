-- Store the steps of a campaign's version, numbered from 1 in the order given.
insert into hyperdrip.campaign_step (
    campaign, version, number, delay_days, subject, preheader, markdown, plain_text
)
select
    %(name)s,
    %(version)s,
    given.number,
    given.delay_days,
    given.subject,
    given.preheader,
    given.markdown,
    given.plain_text
from unnest(
    %(delays)s::integer[], %(subjects)s::text[], %(preheaders)s::text[], %(markdowns)s::text[],
    %(plain_texts)s::text[]
) with ordinality as given (delay_days, subject, preheader, markdown, plain_text, number)
order by given.number;
