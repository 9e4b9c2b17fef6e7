-- Those of the given leads that cannot begin another run, with the reason; by id. Who was stopped may begin
-- again only if that was done by hand, with an undone import, or by a suppression that is there no more.
with judged as (
    select
        lead.id,
        case
            when suppressed.reason is not null then 'is suppressed: ' || suppressed.reason
            when lead.status in ('ACTIVE', 'PAUSED') then 'is ' || lead.status
            when
                lead.status = 'STOPPED'
                and coalesce(lead.status_reason, '') !~ '^(by hand(:|$)|suppressed:|import [0-9]+ was undone$)'
                then concat_ws(': ', 'is STOPPED', lead.status_reason)
            when
                exists (
                    select 1
                    from hyperdrip.message as message
                    where message.lead_id = lead.id and message.state = 'sending'
                )
                then 'has a message that is being sent'
        end as hindrance
    from hyperdrip.lead as lead
    left join lateral (
        select min(suppression.reason) as reason
        from hyperdrip.suppression
        where suppression.email_key = any(hyperdrip.suppression_keys(lead.email))
    ) as suppressed on true
    where lead.id = any(%(lead_ids)s::bigint[])
)

select
    id,
    hindrance
from judged
where hindrance is not null
order by id;
