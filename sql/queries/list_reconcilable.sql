-- Messages that can be reconciled: unknown ones, and on demand those that the console sender marked as sent.
-- Lead, run, number, why it cannot be sent again (null when it can), and whether its lead gets nothing more in
-- that run; by lead, run and number.
select
    message.lead_id,
    message.run,
    message.number,
    case
        when lead.run <> message.run then 'it belongs to an earlier run'
        when lead.status in ('FAILED', 'STOPPED') then 'its lead is ' || lead.status
        when exists (
            select 1
            from hyperdrip.suppression
            where suppression.email_key = any(hyperdrip.suppression_keys(lead.email))
        ) then 'its address is suppressed'
    end as hindrance,
    lead.run <> message.run or lead.status in ('FAILED', 'STOPPED') as is_over
from hyperdrip.message as message
inner join hyperdrip.lead as lead on message.lead_id = lead.id
where
    (
        message.state = 'unknown'
        or (%(with_console)s and message.state = 'sent' and message.sender = 'console')
    )
    and (%(lead_id)s::bigint is null or message.lead_id = %(lead_id)s)
    and (%(number)s::integer is null or message.number = %(number)s)
    and (%(sender)s::text is null or message.sender = %(sender)s)
    and (%(before)s::timestamptz is null or message.claimed_at < %(before)s)
    and (
        not %(has_keys)s
        or (message.lead_id, message.run, message.number) in (
            select
                given.lead_id,
                given.run,
                given.number
            from unnest(%(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[])
                as given (lead_id, run, number)
        )
    )
order by message.lead_id, message.run, message.number;
