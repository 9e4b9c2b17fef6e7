-- Give messages that were settled the given state, planned without a day or cancelled, and take them off the
-- count of their leads, which are locked: a lead that had completed goes on. One row for each day that they
-- had: day, how many; by day.
with held as materialized (
    select
        message.lead_id,
        message.run,
        message.number,
        message.day
    from hyperdrip.message as message
    inner join unnest(%(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[])
        as given (lead_id, run, number)
        on
            message.lead_id = given.lead_id
            and message.run = given.run
            and message.number = given.number
    where message.state in ('sent', 'unknown')
    order by message.lead_id, message.run, message.number
    for no key update of message
),

taken as (
    update hyperdrip.message as message
    set
        state = %(state)s,
        day = null,
        envelope_id = null,
        attempts = 0,
        first_claimed_at = coalesce(message.first_claimed_at, message.claimed_at),
        not_before = null,
        sent_at = null,
        error = case when %(state)s = 'cancelled' then message.error end,
        provider_id = null
    from held
    where
        message.lead_id = held.lead_id
        and message.run = held.run
        and message.number = held.number
),

counted as (
    update hyperdrip.lead as lead
    set
        message_count = lead.message_count - counting.messages,
        status = case when lead.status = 'COMPLETED' then 'ACTIVE' else lead.status end,
        last_sent_at = (
            select max(message.sent_at)
            from hyperdrip.message as message
            where
                message.lead_id = lead.id
                and message.state = 'sent'
                and (message.lead_id, message.run, message.number) not in (
                    select
                        held.lead_id,
                        held.run,
                        held.number
                    from held
                )
        )
    from (
        select
            lead_id,
            run,
            count(*)::integer as messages
        from held
        group by lead_id, run
    ) as counting
    where lead.id = counting.lead_id and lead.run = counting.run
)

select
    day,
    count(*) as messages
from held
group by day
order by day;
