-- Write ledger rows for planned messages that have their envelopes already.
insert into hyperdrip.message (
    lead_id, run, number, campaign, campaign_version, day, envelope_id
)
select
    given.lead_id,
    given.run,
    given.number,
    %(campaign)s::text,
    %(campaign_version)s::integer,
    given.day,
    given.envelope_id
from unnest(
    %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[],
    %(days)s::date[], %(envelope_ids)s::bigint[]
) as given (lead_id, run, number, day, envelope_id);
