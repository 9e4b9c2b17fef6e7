-- Settle messages of one day that were sent and whose token still matches, and move their leads on, all of which are
-- locked by id: count, time of the last sending, COMPLETED after the last one if still ACTIVE. A lead has one of these
-- messages at most. Envelopes are given in order, and as spans of ids; leads in order, too; instants in microseconds
-- after one of them. One row for each message that was not being sent under that token (its lead; nothing was changed),
-- and one for each lead that completed (lead, address, count, maximum).
-- What belongs to an envelope or a lead is found by its place among those given, which takes less time than a join. The
-- inner selects hide day and spans, or this would be planned anew each time.
with locked as materialized (
    select lead.id
    from hyperdrip.lead as lead
    where lead.id = any(%(lead_ids)s::bigint[])
    order by lead.id
    for no key update
),

finished as (
    update hyperdrip.message as message
    set
        state = 'sent',
        sent_at = %(since)s::timestamptz + interval '1 microsecond'
            * (%(sent_after)s::bigint[])[width_bucket(message.envelope_id, %(envelope_ids)s::bigint[])],
        error = null,
        provider_id = (%(provider_ids)s::text[])[width_bucket(message.envelope_id, %(envelope_ids)s::bigint[])],
        not_before = null
    where
        (select count(*) from locked) > 0  -- so that leads are locked before messages
        and message.ctid = any(array(
            select message.place
            from unnest((select %(firsts)s::bigint[]), (select %(lasts)s::bigint[])) as span (first, last)
            cross join lateral (
                select message.ctid as place
                from hyperdrip.message as message
                where
                    message.day = (select %(day)s::date)
                    and message.envelope_id between span.first and span.last
                    and message.state = 'sending'
                offset 0
            ) as message
        ))
        and message.state = 'sending'
        and message.token = (%(tokens)s::integer[])[width_bucket(message.envelope_id, %(envelope_ids)s::bigint[])]
        and message.lead_id = (%(leads)s::bigint[])[width_bucket(message.envelope_id, %(envelope_ids)s::bigint[])]
    returning message.lead_id
),

moved as (
    update hyperdrip.lead as lead
    set
        message_count = lead.message_count + 1,
        last_sent_at = greatest(
            lead.last_sent_at,
            %(since)s::timestamptz + interval '1 microsecond'
            * (%(leads_sent_after)s::bigint[])[width_bucket(lead.id, %(lead_ids)s::bigint[])]
        ),
        status = case
            when lead.status = 'ACTIVE' and lead.message_count + 1 >= lead.max_messages
                then 'COMPLETED'
            else lead.status
        end
    where
        lead.id = any(array(select finished.lead_id from finished))
        and lead.run = (%(runs)s::integer[])[width_bucket(lead.id, %(lead_ids)s::bigint[])]
    returning lead.id, lead.email, lead.message_count, lead.max_messages, lead.status
)

select
    given.lead_id as id,
    null as email,
    null as message_count,
    null as max_messages
from unnest(%(leads)s::bigint[]) as given (lead_id)
where given.lead_id not in (select finished.lead_id from finished)
union all
select
    moved.id,
    moved.email,
    moved.message_count,
    moved.max_messages
from moved
where moved.status = 'COMPLETED'
order by email nulls first, id;
