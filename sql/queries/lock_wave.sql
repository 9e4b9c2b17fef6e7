-- Lock the messages that envelopes of a day point at, by lead, run and number, but for those that somebody else
-- has locked: whoever waits for these while finishing others could wait for ever. One row for each envelope
-- that cannot be claimed: lead, run, number, envelope, and why: `held` (locked by somebody else), `sending`, or
-- `orphan` (it points at no open message of this day); by lead, run, number and envelope.
with given as (
    select
        given.lead_id,
        given.run,
        given.number,
        given.envelope_id
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(envelope_ids)s::bigint[]
    ) as given (lead_id, run, number, envelope_id)
),

locked as materialized (
    select
        message.lead_id,
        message.run,
        message.number,
        message.envelope_id,
        message.day,
        message.state
    from hyperdrip.message as message
    inner join given
        on
            message.lead_id = given.lead_id
            and message.run = given.run
            and message.number = given.number
            and message.envelope_id = given.envelope_id
    order by message.lead_id, message.run, message.number
    for no key update of message skip locked
)

select
    given.lead_id,
    given.run,
    given.number,
    given.envelope_id,
    case
        when locked.state = 'sending' then 'sending'
        when
            locked.state is null
            and exists (
                select 1
                from hyperdrip.message as held
                where
                    held.lead_id = given.lead_id
                    and held.run = given.run
                    and held.number = given.number
                    and held.envelope_id = given.envelope_id
                    and held.day = %(day)s
                    and held.state in ('planned', 'sending')
            ) then 'held'
        else 'orphan'
    end as why
from given
left join locked
    on
        given.lead_id = locked.lead_id
        and given.run = locked.run
        and given.number = locked.number
        and given.envelope_id = locked.envelope_id
        and locked.day = %(day)s
where locked.state is null or locked.state <> 'planned'
order by given.lead_id, given.run, given.number, given.envelope_id;
