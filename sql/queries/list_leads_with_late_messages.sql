-- Leads with a message still planned for a day before the given one; by lead.
select distinct message.lead_id
from hyperdrip.message
inner join hyperdrip.quota_day on message.day = quota_day.day
where
    message.state = 'planned'
    and quota_day.day < %(today)s
    and not quota_day.is_closed
order by message.lead_id;
