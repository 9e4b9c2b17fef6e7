-- Days on which a message is planned or being sent, and how many; by day.
select
    day,
    count(*) as messages
from hyperdrip.message
where day is not null and state in ('planned', 'sending')
group by day
order by day;
