-- Take the next places of some domains, as many as wanted of those that come within a second. One row per domain
-- that has a row: how many messages may go now, in how many seconds the first of the others may come, and where
-- the places that were taken end; in no order. Rows are locked by domain. The server's own clock, unless %(now)s
-- says otherwise.
with held as materialized (
    select
        pace.domain,
        pace.free_at,
        pace.line_ends_at,
        given.every_seconds,
        given.wanted
    from hyperdrip.domain_pace as pace
    inner join unnest(%(domains)s::text[], %(every)s::double precision[], %(counts)s::integer[])
        as given (domain, every_seconds, wanted)
        on pace.domain = given.domain
    order by pace.domain
    for no key update of pace
),

moment as (
    select coalesce(%(now)s::timestamptz, clock_timestamp()) as at_instant
),

starting as (
    select
        held.domain,
        held.every_seconds,
        held.wanted,
        held.line_ends_at,
        moment.at_instant,
        -- Under one limit and one clock free_at is never later than this: a limit that was raised, and a
        -- clock that was put back, do not hold a domain up for longer.
        greatest(
            least(held.free_at, moment.at_instant + make_interval(secs => held.every_seconds + 5)),
            moment.at_instant
        ) as starts_at
    from held
    cross join moment
),

granting as (
    select
        starting.*,
        least(
            starting.wanted,
            greatest(
                0,
                1 + floor(
                    (1 - extract(epoch from starting.starts_at - starting.at_instant)) / starting.every_seconds
                )
            )
        )::integer as granted
    from starting
),

placed as (
    select
        granting.domain,
        granting.at_instant,
        granting.granted,
        granting.starts_at + make_interval(secs => granting.granted * granting.every_seconds) as free_at,
        (granting.wanted - granting.granted) * granting.every_seconds as waiting_seconds,
        granting.line_ends_at
    from granting
),

moved as (
    update hyperdrip.domain_pace as pace
    set
        free_at = placed.free_at,
        line_ends_at = case
            when placed.waiting_seconds > 0
                then least(
                    greatest(placed.line_ends_at, placed.free_at)
                    + make_interval(secs => placed.waiting_seconds),
                    placed.at_instant + make_interval(secs => %(longest)s::double precision)
                )
            else pace.line_ends_at
        end
    from placed
    where pace.domain = placed.domain
)

select
    placed.domain,
    placed.granted,
    extract(
        epoch from greatest(placed.line_ends_at, placed.free_at) - placed.at_instant
    )::double precision as first_wait,
    placed.free_at
from placed;
