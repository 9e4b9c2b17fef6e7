-- Is any of these addresses suppressed, or one of these leads by a hash of its address?
select
    exists (
        select 1
        from unnest(%(emails)s::text[]) as given (email)
        cross join lateral (
            select 1 as one
            from hyperdrip.suppression
            where suppression.email_key = lower(given.email)
            offset 0
        ) as found
    )
    or exists (
        select 1
        from hyperdrip.list_hash_suppressed(%(lead_ids)s::bigint[])
    ) as is_any;
