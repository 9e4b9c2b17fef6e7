-- Move leads on after messages of theirs were settled: count, time of the last sending,
-- COMPLETED after the last one if still ACTIVE. The leads are locked already. One row for each lead that
-- completed: id, address, count, maximum; by id.
with step as (
    select
        given.lead_id,
        max(given.run) as run,
        sum(given.counted)::integer as counted,
        max(given.sent_at) as sent_at
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(counted)s::integer[],
        %(sent_ats)s::timestamptz[]
    ) as given (lead_id, run, number, counted, sent_at)
    group by given.lead_id
),

moved as (
    update hyperdrip.lead as lead
    set
        message_count = lead.message_count + step.counted,
        last_sent_at = greatest(lead.last_sent_at, step.sent_at),
        status = case
            when lead.status = 'ACTIVE' and lead.message_count + step.counted >= lead.max_messages
                then 'COMPLETED'
            else lead.status
        end
    from step
    where lead.id = step.lead_id and lead.run = step.run
    returning lead.id, lead.email, lead.message_count, lead.max_messages, lead.status, step.counted
)

select
    id,
    email,
    message_count,
    max_messages
from moved
where status = 'COMPLETED' and counted > 0
order by id;
