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
    %(day)s::date,
    given.envelope_id
from unnest(
    %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(envelope_ids)s::bigint[]
) as given (lead_id, run, number, envelope_id);
