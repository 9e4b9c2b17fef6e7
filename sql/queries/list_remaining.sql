-- What is left of leads' runs: lead, run, numbers and days of the planned messages in order, the delays
-- in days before them, the day of the last message that was handed over or is being sent, and the day
-- before which the lead does not start; by lead.
select
    message.lead_id,
    message.run,
    array_agg(message.number order by message.number) as numbers,
    array_agg(message.day order by message.number) as due,
    array_agg(coalesce(step.delay_days, 1) order by message.number) as delays,
    (
        select max(gone.day)
        from hyperdrip.message as gone
        where
            gone.lead_id = message.lead_id
            and gone.run = message.run
            and gone.state in ('sending', 'sent', 'unknown')
    ) as previous_day,
    lead.start_on
from hyperdrip.message as message
inner join hyperdrip.lead as lead on message.lead_id = lead.id and message.run = lead.run
left join hyperdrip.campaign_step as step
    on
        message.campaign = step.campaign
        and message.campaign_version = step.version
        and message.number = step.number
where message.lead_id = any(%(lead_ids)s::bigint[]) and message.state = 'planned'
group by message.lead_id, message.run, lead.start_on
order by message.lead_id;
