-- Everything that decides what happens to a lead today: one row, or none for an unknown lead.
select
    lead.id as lead_id,
    lead.email,
    lead.status,
    lead.status_reason,
    lead.message_count,
    lead.max_messages,
    campaign.is_paused as is_campaign_paused,
    lead.campaign,
    suppression.reason as suppressed_because,
    following.number,
    following.day,
    following.state,
    following.envelope_id,
    following.attempts,
    following.not_before,
    following.not_before > clock_timestamp() as is_in_backoff,
    following.claimed_at,
    (
        select min(message.number)
        from hyperdrip.message as message
        where
            message.lead_id = lead.id
            and message.run = lead.run
            and message.number > following.number
            and message.state = 'planned'
            and message.day <= %(today)s
    ) as due_behind,
    holder.host as worker_host,
    holder.pid as worker_pid,
    before.number as number_before,
    before.state as state_before,
    before.day as day_before,
    coalesce(quota_day.capacity, instance.daily_max) as capacity,
    coalesce(quota_day.sent, 0) as sent,
    coalesce(quota_day.reserved, 0) as waiting,
    (
        select count(*)
        from hyperdrip.worker
        where
            worker.stopped_at is null
            and worker.last_seen_at > clock_timestamp() - make_interval(secs => 60)
    ) as live_workers
from hyperdrip.lead as lead
cross join hyperdrip.instance
inner join hyperdrip.campaign as campaign
    on lead.campaign = campaign.name and lead.campaign_version = campaign.version
left join lateral (
    select min(found.reason) as reason
    from hyperdrip.suppression as found
    where found.email_key = any(hyperdrip.suppression_keys(lead.email))
) as suppression on true
left join lateral (
    select
        message.number,
        message.day,
        message.state,
        message.envelope_id,
        message.attempts,
        message.not_before,
        message.claimed_at,
        message.worker
    from hyperdrip.message as message
    where
        message.lead_id = lead.id
        and message.run = lead.run
        and message.state in ('planned', 'sending')
    order by message.number
    limit 1
) as following on true
left join lateral (
    select
        message.number,
        message.state,
        message.day
    from hyperdrip.message as message
    where
        message.lead_id = lead.id
        and message.run = lead.run
        and message.state in ('sent', 'unknown', 'failed')
    order by message.number desc
    limit 1
) as before on true
left join hyperdrip.worker as holder on following.worker = holder.id
left join hyperdrip.quota_day on quota_day.day = %(today)s
where lead.id = %(lead_id)s;
