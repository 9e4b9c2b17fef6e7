-- The leads whose messages the envelopes of a day, given as spans of ids, are or were, in any state; by id.
select distinct message.lead_id
from unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) as span (first, last)
cross join lateral (
    select message.lead_id
    from hyperdrip.message as message
    where message.day = %(day)s and message.envelope_id between span.first and span.last
    offset 0
) as message
order by message.lead_id;
