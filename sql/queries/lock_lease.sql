-- Lock the messages that are still ours, to extend their visibility, but for those that somebody else has locked:
-- envelope; by lead, run and number. Each is looked up by its key, whatever the statistics say of states.
select message.envelope_id
from (
    select
        given.lead_id,
        given.run,
        given.number,
        given.token
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(tokens)s::integer[]
    ) as given (lead_id, run, number, token)
    order by given.lead_id, given.run, given.number
) as given
cross join lateral (
    select message.envelope_id
    from hyperdrip.message as message
    where
        message.lead_id = given.lead_id
        and message.run = given.run
        and message.number = given.number
        and message.token = given.token
        and message.state = 'sending'
    for no key update of message skip locked
) as message
order by given.lead_id, given.run, given.number;
