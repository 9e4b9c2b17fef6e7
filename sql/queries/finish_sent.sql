-- Settle messages that were sent and whose token still matches, and move their leads on, which are locked already:
-- count, time of the last sending, next day, COMPLETED after the last one if still ACTIVE. A lead has one of these
-- messages at most. One row for each message that was not being sent under that token (lead, run, number; nothing
-- was changed), and one for each lead that completed (lead, run, number, address, count, maximum); by lead.
with finished as (
    update hyperdrip.message as message
    set
        state = 'sent',
        sent_at = given.sent_at,
        error = null,
        provider_id = given.provider_id,
        not_before = null
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(tokens)s::integer[],
        %(sent_ats)s::timestamptz[], %(provider_ids)s::text[]
    ) as given (lead_id, run, number, token, sent_at, provider_id)
    where
        message.lead_id = given.lead_id
        and message.run = given.run
        and message.number = given.number
        and message.token = given.token
        and (message.state = 'sending') is true
    returning message.lead_id, message.run, message.number, message.sent_at
),

moved as (
    update hyperdrip.lead as lead
    set
        message_count = lead.message_count + 1,
        last_sent_at = greatest(lead.last_sent_at, finished.sent_at),
        next_scheduled_for = (
            select message.day
            from hyperdrip.message as message
            where
                message.lead_id = finished.lead_id
                and message.run = finished.run
                and message.number <> finished.number
                and message.state in ('planned', 'sending')
            order by message.number
            limit 1
        ),
        status = case
            when lead.status = 'ACTIVE' and lead.message_count + 1 >= lead.max_messages
                then 'COMPLETED'
            else lead.status
        end
    from finished
    where lead.id = finished.lead_id and lead.run = finished.run
    returning lead.id, finished.run, finished.number, lead.email, lead.message_count, lead.max_messages, lead.status
)

select
    given.lead_id,
    given.run,
    given.number,
    null as email,
    null as message_count,
    null as max_messages
from unnest(%(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[]) as given (lead_id, run, number)
where (given.lead_id, given.run, given.number) not in (
    select
        finished.lead_id,
        finished.run,
        finished.number
    from finished
)
union all
select
    moved.id,
    moved.run,
    moved.number,
    moved.email,
    moved.message_count,
    moved.max_messages
from moved
where moved.status = 'COMPLETED'
order by 1, 2, 3;
