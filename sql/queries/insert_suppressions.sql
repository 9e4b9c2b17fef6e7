-- Suppress addresses; one row: how many they are, and those that were not suppressed yet, in order. One that is
-- known by its keyed hash stays so. Lower case is the database's own, as every claim has it.
with given as (
    select distinct lower(address.email) as email
    from unnest(%(emails)s::text[]) as address (email)
),

inserted as (
    insert into hyperdrip.suppression (email_key, reason, created_at)
    select
        given.email,
        %(reason)s::text as reason,
        %(now)s::timestamptz as created_at
    from given
    where
        not exists (
            select 1
            from hyperdrip.suppression
            where suppression.email_key = any(hyperdrip.suppression_keys(given.email))
        )
    order by given.email
    on conflict (email_key) do nothing
    returning email_key
)

select
    (select count(*) from given) as total,
    array(
        select inserted.email_key
        from inserted
        order by inserted.email_key
    ) as added;
