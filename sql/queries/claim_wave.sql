-- Claim as many of the given messages as the day has room for, by envelope. One row per claimed message with what a
-- sender needs; in no order. They have to be counted next (count_claimed), under the lock of the day. The messages are
-- locked here, but for those that somebody else has locked: whoever waits for these while finishing others could wait
-- for ever.
with gate as (
    select greatest(0, coalesce(quota_day.capacity, instance.daily_max) - quota_day.sent) as room
    from hyperdrip.quota_day
    cross join hyperdrip.instance
    where
        quota_day.day = %(day)s
        and not instance.is_paused
        and instance.newest_day = %(day)s
        and (%(now)s::timestamptz at time zone instance.time_zone)::date = %(day)s
)

-- Each message and lead is looked up by its key: `offset 0`, the lock and `is not distinct from` keep the planner from
-- joining with all messages of the day, which it does when it takes other conditions for more selective than they are.
-- Sorted rows are kept: without the sort, a join that looks at them again could claim more than the limit.
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
from (
    select
        message.place,
        lead.email,
        lead.name,
        lead.fields,
        lead.message_count,
        lead.max_messages
    from unnest(
        %(lead_ids)s::bigint[], %(runs)s::integer[], %(numbers)s::integer[], %(envelope_ids)s::bigint[]
    ) as given (lead_id, run, number, envelope_id)
    cross join lateral (
        select
            message.ctid as place,
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
        for no key update of message skip locked
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
    order by given.envelope_id
    limit coalesce((select gate.room from gate), 0)
) as chosen
where message.ctid = chosen.place
returning
    message.lead_id,
    message.run,
    message.number,
    message.envelope_id,
    message.token,
    message.attempts,
    message.day,
    chosen.email,
    chosen.name,
    chosen.fields,
    message.campaign,
    message.campaign_version,
    chosen.message_count,
    chosen.max_messages,
    coalesce(message.first_claimed_at, message.claimed_at) as first_claimed_at;
