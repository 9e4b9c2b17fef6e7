-- How many leads have each status, by status.
select
    status,
    count(*) as leads
from hyperdrip.lead
group by status
order by status;
