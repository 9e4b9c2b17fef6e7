-- Of the envelopes of a day, given as spans of ids, those whose messages are planned; by id.
select message.envelope_id
from unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) as span (first, last)
cross join lateral (
    select message.envelope_id
    from hyperdrip.message as message
    where
        message.day = %(day)s
        and message.envelope_id between span.first and span.last
        and message.state = 'planned'
    offset 0
) as message
order by message.envelope_id;
