-- Is the address of any of these leads suppressed?
select
    exists (
        select 1
        from unnest(%(lead_ids)s::bigint[]) as given (id)
        cross join lateral (
            select lower(lead.email) as email_key
            from hyperdrip.lead as lead
            where lead.id = given.id
            offset 0
        ) as lead
        inner join hyperdrip.suppression on lead.email_key = suppression.email_key
    )
    or exists (
        select 1
        from hyperdrip.list_hash_suppressed(%(lead_ids)s::bigint[])
    ) as is_any;
