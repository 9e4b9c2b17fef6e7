-- Delete the leads of which nothing but cancelled messages is left, with these; one row: how many leads.
with untouched as (
    select lead.id
    from hyperdrip.lead as lead
    where
        lead.id = any(%(lead_ids)s::bigint[])
        and not exists (
            select 1
            from hyperdrip.message as message
            where message.lead_id = lead.id and message.state <> 'cancelled'
        )
),

gone as (
    delete from hyperdrip.message
    where lead_id in (select untouched.id from untouched)
    returning lead_id
),

removed as (
    delete from hyperdrip.lead
    where id in (select untouched.id from untouched)
    and (select count(*) from gone) >= 0
    returning id
)

select count(*) as removed
from removed;
