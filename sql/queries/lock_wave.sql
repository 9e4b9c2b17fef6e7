-- Lock the open messages of envelopes of a day, given as spans of ids, but for those that somebody else has locked:
-- whoever waits for these while finishing others could wait for ever. One row for each open message: its envelope, its
-- lead, and what it is: `planned` or `sending` (locked now), or `held` (locked by somebody else); by envelope.
with locked as materialized (
    select
        message.envelope_id,
        message.state
    from unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) as span (first, last)
    cross join lateral (
        select
            message.envelope_id,
            message.state
        from hyperdrip.message as message
        where
            message.day = %(day)s
            and message.envelope_id between span.first and span.last
            and message.state in ('planned', 'sending')
        for no key update of message skip locked
    ) as message
),

planned as (
    select locked.envelope_id
    from locked
    where locked.state = 'planned'
),

sending as (
    select locked.envelope_id
    from locked
    where locked.state = 'sending'
),

found as (
    select
        message.envelope_id,
        message.lead_id
    from unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) as span (first, last)
    cross join lateral (
        select
            message.envelope_id,
            message.lead_id
        from hyperdrip.message as message
        where
            message.day = %(day)s
            and message.envelope_id between span.first and span.last
            and message.state in ('planned', 'sending')
        offset 0
    ) as message
)

select
    found.envelope_id,
    found.lead_id,
    case
        when found.envelope_id in (select planned.envelope_id from planned) then 'planned'
        when found.envelope_id in (select sending.envelope_id from sending) then 'sending'
        else 'held'
    end as what
from found
order by found.envelope_id;
