-- Settle messages whose token still matches: those being sent, and unknown ones that turn out to be sent.
-- One row for each given message that was not simply being sent: lead, run, number, and the state before
-- (unknown), or null when another token or state stands there and nothing was changed; by lead and number.
with given as (
    select
        given.lead_id,
        given.run,
        given.number,
        given.token,
        given.state,
        given.sent_at,
        given.error,
        given.provider_id,
        given.backoff_seconds,
        given.is_attempt
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(tokens)s::integer[],
        %(states)s::text[], %(sent_ats)s::timestamptz[], %(errors)s::text[], %(provider_ids)s::text[],
        %(backoffs)s::integer[], %(are_attempts)s::boolean[]
    ) as given (
        lead_id, run, number, token, state, sent_at, error, provider_id, backoff_seconds, is_attempt
    )
),

held as materialized (
    select
        message.lead_id,
        message.run,
        message.number,
        message.state as old_state,
        given.state as new_state,
        given.sent_at,
        given.error,
        given.provider_id,
        given.backoff_seconds,
        given.is_attempt
    from hyperdrip.message as message
    inner join given
        on
            message.lead_id = given.lead_id
            and message.run = given.run
            and message.number = given.number
            and message.token = given.token
    where message.state = 'sending' or (message.state = 'unknown' and given.state = 'sent')
    order by message.lead_id, message.run, message.number
    for no key update of message
),

finished as (
    update hyperdrip.message as message
    set
        state = held.new_state,
        sent_at = held.sent_at,
        error = held.error,
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
)

select
    given.lead_id,
    given.run,
    given.number,
    held.old_state
from given
left join held
    on
        given.lead_id = held.lead_id
        and given.run = held.run
        and given.number = held.number
where held.old_state is null or held.old_state <> 'sending'
order by given.lead_id, given.run, given.number;
