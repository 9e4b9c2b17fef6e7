-- Give places of domains back that nothing was sent with, where nobody has taken one behind them.
with held as materialized (
    select
        pace.domain,
        given.span
    from hyperdrip.domain_pace as pace
    inner join unnest(%(domains)s::text[], %(ends)s::timestamptz[], %(spans)s::double precision[])
        as given (domain, end_at, span)
        on pace.domain = given.domain and pace.free_at = given.end_at
    order by pace.domain
    for no key update of pace
)

update hyperdrip.domain_pace as pace
set free_at = pace.free_at - make_interval(secs => held.span)
from held
where pace.domain = held.domain;
