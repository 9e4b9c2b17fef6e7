-- Settle messages whose token still matches: those being sent, and unknown ones that turn out to be sent.
-- One row for each given message that was not simply being sent: lead, run, number, and the state before
-- (unknown), or null when another token or state stands there and nothing was changed; by lead and number.
-- Each is looked up by its key, whatever the statistics say of states. Their leads are locked, and with them all
-- that may change such a message. What was not handed over keeps what was said of it before.
with held as materialized (
    select
        given.lead_id,
        given.run,
        given.number,
        given.state as new_state,
        given.sent_at,
        given.error,
        given.provider_id,
        given.backoff_seconds,
        given.is_attempt,
        message.state as old_state
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(tokens)s::integer[],
        %(states)s::text[], %(sent_ats)s::timestamptz[], %(errors)s::text[], %(provider_ids)s::text[],
        %(backoffs)s::integer[], %(are_attempts)s::boolean[]
    ) as given (
        lead_id, run, number, token, state, sent_at, error, provider_id, backoff_seconds, is_attempt
    )
    left join lateral (
        select message.state
        from hyperdrip.message as message
        where
            message.lead_id = given.lead_id
            and message.run = given.run
            and message.number = given.number
            and message.token = given.token
            and (message.state = 'sending' or (message.state = 'unknown' and given.state = 'sent'))
        offset 0
    ) as message on true
),

finished as (
    update hyperdrip.message as message
    set
        state = held.new_state,
        sent_at = held.sent_at,
        error = case when held.is_attempt then held.error else coalesce(held.error, message.error) end,
        provider_id = held.provider_id,
        attempts = message.attempts - case when held.is_attempt then 0 else 1 end,
        not_before = case
            when held.backoff_seconds > 0
                then clock_timestamp() + make_interval(secs => held.backoff_seconds)
        end
    from held
    where
        message.lead_id = held.lead_id
        and message.run = held.run
        and message.number = held.number
        and message.state = held.old_state
)

select
    held.lead_id,
    held.run,
    held.number,
    held.old_state
from held
where held.old_state is distinct from 'sending'
order by held.lead_id, held.run, held.number;
