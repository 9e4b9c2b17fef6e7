-- Lock those of the given messages that are being sent under this very envelope: lead, run, number, token,
-- attempts, sender, day, envelope; by lead, run and number. Each is looked up by its key, whatever the statistics
-- say of days and states.
select
    message.lead_id,
    message.run,
    message.number,
    message.token,
    message.attempts,
    message.sender,
    message.day,
    message.envelope_id
from (
    select
        given.lead_id,
        given.run,
        given.number,
        given.envelope_id
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(envelope_ids)s::bigint[]
    ) as given (lead_id, run, number, envelope_id)
    order by given.lead_id, given.run, given.number
) as given
cross join lateral (
    select
        message.lead_id,
        message.run,
        message.number,
        message.token,
        message.attempts,
        message.sender,
        message.day,
        message.envelope_id
    from hyperdrip.message as message
    where
        message.lead_id = given.lead_id
        and message.run = given.run
        and message.number = given.number
        and message.envelope_id = given.envelope_id
        and message.state = 'sending'
        and message.day is not distinct from %(day)s
    for no key update of message
) as message
order by message.lead_id, message.run, message.number;
