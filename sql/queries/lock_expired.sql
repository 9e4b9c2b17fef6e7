-- Lock the messages of envelopes of a day, given as spans of ids, that are being sent: lead, run, number, token,
-- attempts, sender, day, envelope; by lead, run and number. Their leads are locked, and with them all that may settle
-- such a message.
select
    message.lead_id,
    message.run,
    message.number,
    message.token,
    message.attempts,
    message.sender,
    message.day,
    message.envelope_id
from unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) as span (first, last)
cross join lateral (
    select message.*
    from hyperdrip.message as message
    where
        message.day = %(day)s
        and message.envelope_id between span.first and span.last
        and message.state = 'sending'
    for no key update of message
) as message
order by message.lead_id, message.run, message.number;
