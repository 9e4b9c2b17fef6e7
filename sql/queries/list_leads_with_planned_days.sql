-- All leads with a message planned for the given day or later; by lead.
select distinct message.lead_id
from hyperdrip.message
where message.state = 'planned' and message.day >= %(from_day)s
order by message.lead_id;
