-- Claim the messages of as many envelopes as the day has room for, by envelope; the envelopes are given as spans of
-- ids. One row per claimed message with what a sender needs; by envelope. They have to be counted next (count_claimed),
-- under the lock of the day. The messages are locked here, but for those that somebody else has locked: whoever waits
-- for these while finishing others could wait for ever.
with gate as (
    select greatest(0, coalesce(quota_day.capacity, instance.daily_max) - quota_day.sent) as room
    from hyperdrip.quota_day
    cross join hyperdrip.instance
    where
        quota_day.day = %(day)s
        and not instance.is_paused
        and instance.newest_day = %(day)s
        and (%(now)s::timestamptz at time zone instance.time_zone)::date = %(day)s
),

-- Whatever statistics say of days and states: each span is one stretch of the index, and each lead below is looked up
-- by its key (`offset 0` keeps the planner from joining with all of them). The inner selects hide day and spans, or
-- this would be planned anew each time.
locked as materialized (
    select
        message.place,
        message.lead_id,
        message.run,
        message.number,
        message.envelope_id,
        message.token,
        message.attempts,
        message.campaign,
        message.campaign_version,
        message.first_claimed_at
    from unnest((select %(firsts)s::bigint[]), (select %(lasts)s::bigint[])) as span (first, last)
    cross join lateral (
        select
            message.ctid as place,
            message.lead_id,
            message.run,
            message.number,
            message.envelope_id,
            message.token + 1 as token,
            message.attempts + 1 as attempts,
            message.campaign,
            message.campaign_version,
            coalesce(
                message.first_claimed_at, case when message.attempts > 0 then message.claimed_at end
            ) as first_claimed_at
        from hyperdrip.message as message
        where
            message.day = (select %(day)s::date)
            and message.envelope_id between span.first and span.last
            and message.state = 'planned'
        for no key update of message skip locked
    ) as message
),

chosen as materialized (
    select
        locked.place,
        locked.lead_id,
        locked.run,
        locked.number,
        locked.envelope_id,
        locked.token,
        locked.attempts,
        lead.email,
        lead.name,
        lead.fields,
        locked.campaign,
        locked.campaign_version,
        lead.message_count,
        lead.max_messages,
        locked.first_claimed_at
    from locked
    cross join lateral (
        select
            lead.email,
            lead.name,
            lead.fields,
            lead.message_count,
            lead.max_messages
        from hyperdrip.lead as lead
        where
            lead.id = locked.lead_id
            and lead.status = 'ACTIVE'
            and lead.run = locked.run
        offset 0
    ) as lead
    where
        (locked.campaign, locked.campaign_version) not in (
            select
                campaign.name,
                campaign.version
            from hyperdrip.campaign
            where campaign.is_paused
        )
        and not exists (
            select 1
            from hyperdrip.suppression
            where suppression.email_key = lower(lead.email)
        )
        and locked.lead_id <> all(array(
            select hashed.lead_id
            from hyperdrip.list_hash_suppressed(array(select locked.lead_id from locked)) as hashed (lead_id)
        ))
        and not (
            locked.number > 1
            and exists (
                select 1
                from hyperdrip.message as lower_one
                where
                    lower_one.lead_id = locked.lead_id
                    and lower_one.run = locked.run
                    and lower_one.number < locked.number
                    and lower_one.state in ('planned', 'sending')
            )
        )
    order by locked.envelope_id
    limit coalesce((select gate.room from gate), 0)
),

claimed as (
    update hyperdrip.message as message
    set
        state = 'sending',
        token = message.token + 1,
        attempts = message.attempts + 1,
        not_before = null,
        sender = %(sender)s,
        worker = %(worker)s,
        claimed_at = %(now)s,
        first_claimed_at = coalesce(
            message.first_claimed_at, case when message.attempts > 0 then message.claimed_at end
        )
    where message.ctid = any(array(select chosen.place from chosen))
    returning message.envelope_id
)

select
    lead_id,
    run,
    number,
    envelope_id,
    token,
    attempts,
    %(day)s::date as day,
    email,
    name,
    fields::text as lead_fields,
    campaign,
    campaign_version,
    message_count,
    max_messages,
    coalesce(first_claimed_at, %(now)s) as first_claimed_at
from chosen
-- A message that changed while it was locked is not found again by its place: it was not claimed. `is true` keeps the
-- planner from making a join of this, row by row.
where (envelope_id in (select claimed.envelope_id from claimed)) is true
order by envelope_id;
