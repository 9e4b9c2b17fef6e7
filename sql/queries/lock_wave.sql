-- Lock the messages that envelopes of a day point at, by lead, run and number, but for those that somebody else
-- has locked: whoever waits for these while finishing others could wait for ever. One row for each envelope
-- that cannot be claimed: lead, run, number, envelope, and why: `held` (locked by somebody else), `sending`, or
-- `orphan` (it points at no open message of this day); by lead, run, number and envelope. Each message is looked
-- up by its key, whatever the statistics say of days and states.
with locked as materialized (
    select
        given.lead_id,
        given.run,
        given.number,
        given.envelope_id,
        message.state
    from (
        select
            given.lead_id,
            given.run,
            given.number,
            given.envelope_id
        from unnest(
            %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(envelope_ids)s::bigint[]
        ) as given (lead_id, run, number, envelope_id)
        order by given.lead_id, given.run, given.number
    ) as given
    left join lateral (
        select case when message.day = %(day)s then message.state end as state
        from hyperdrip.message as message
        where
            message.lead_id = given.lead_id
            and message.run = given.run
            and message.number = given.number
            and message.envelope_id = given.envelope_id
        for no key update of message skip locked
    ) as message on true
)

select
    locked.lead_id,
    locked.run,
    locked.number,
    locked.envelope_id,
    case
        when locked.state = 'sending' then 'sending'
        when
            locked.state is null
            and exists (
                select 1
                from hyperdrip.message as held
                where
                    held.lead_id = locked.lead_id
                    and held.run = locked.run
                    and held.number = locked.number
                    and held.envelope_id = locked.envelope_id
                    and held.day is not distinct from %(day)s
                    and held.state in ('planned', 'sending')
                offset 0
            ) then 'held'
        else 'orphan'
    end as why
from locked
where locked.state is distinct from 'planned'
order by locked.lead_id, locked.run, locked.number, locked.envelope_id;
