-- Claim as many of the given messages as the day has room for, in the order given, and count them against
-- its quota. One row per claimed message with what a sender needs; in the order given. The rows of the
-- messages and of the day are locked already.
with gate as (
    select
        coalesce(quota_day.capacity, instance.daily_max) as cap,
        greatest(0, coalesce(quota_day.capacity, instance.daily_max) - quota_day.sent) as room
    from hyperdrip.quota_day
    cross join hyperdrip.instance
    where
        quota_day.day = %(day)s
        and not instance.is_paused
        and instance.newest_day = %(day)s
        and (%(now)s::timestamptz at time zone instance.time_zone)::date = %(day)s
),

-- Each message and lead is looked up by its key: `offset 0` and `is not distinct from` keep the planner from joining
-- with all messages of the day, which it does when it takes the other conditions for more selective than they are.
chosen as (
    select
        message.lead_id,
        message.run,
        message.number,
        lead.email,
        lead.name,
        lead.fields,
        lead.message_count,
        lead.max_messages,
        given.position
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(envelope_ids)s::bigint[]
    ) with ordinality as given (lead_id, run, number, envelope_id, position)
    cross join lateral (
        select
            message.lead_id,
            message.run,
            message.number,
            message.campaign,
            message.campaign_version
        from hyperdrip.message as message
        where
            message.lead_id = given.lead_id
            and message.run = given.run
            and message.number = given.number
            and message.envelope_id = given.envelope_id
            and message.state = 'planned'
            and message.day is not distinct from %(day)s::date
        offset 0
    ) as message
    cross join lateral (
        select
            lead.email,
            lead.name,
            lead.fields,
            lead.message_count,
            lead.max_messages
        from hyperdrip.lead as lead
        where
            lead.id = given.lead_id
            and lead.status = 'ACTIVE'
            and lead.run = given.run
        offset 0
    ) as lead
    where
        not exists (
            select 1
            from hyperdrip.campaign
            where
                campaign.name = message.campaign
                and campaign.version = message.campaign_version
                and campaign.is_paused
        )
        and not exists (
            select 1
            from hyperdrip.suppression
            where suppression.email_key = lower(lead.email)
        )
        and given.lead_id <> all(array(
            select hashed.lead_id
            from hyperdrip.list_hash_suppressed(%(lead_ids)s::bigint[]) as hashed (lead_id)
        ))
        and not exists (
            select 1
            from hyperdrip.message as lower_one
            where
                lower_one.lead_id = given.lead_id
                and lower_one.run = given.run
                and lower_one.number < given.number
                and lower_one.state in ('planned', 'sending')
        )
    order by given.position
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
    from chosen
    where
        message.lead_id = chosen.lead_id
        and message.run = chosen.run
        and message.number = chosen.number
    returning
        message.lead_id, message.run, message.number, message.envelope_id, message.token,
        message.attempts, message.day, message.campaign, message.campaign_version,
        coalesce(message.first_claimed_at, message.claimed_at) as first_claimed_at,
        chosen.email, chosen.name, chosen.fields, chosen.message_count, chosen.max_messages,
        chosen.position
),

counted as (
    update hyperdrip.quota_day
    set
        reserved = quota_day.reserved - total.claimed,
        sent = quota_day.sent + total.claimed,
        highest_cap = greatest(quota_day.highest_cap, gate.cap)
    from (select count(*)::integer as claimed from claimed) as total
    cross join gate
    where quota_day.day = %(day)s and total.claimed > 0
)

select
    claimed.lead_id,
    claimed.run,
    claimed.number,
    claimed.envelope_id,
    claimed.token,
    claimed.attempts,
    claimed.day,
    claimed.email,
    claimed.name,
    claimed.fields,
    claimed.campaign,
    claimed.campaign_version,
    claimed.message_count,
    claimed.max_messages,
    claimed.first_claimed_at
from claimed
order by claimed.position;
