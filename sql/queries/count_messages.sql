-- How many messages have each state, by state.
select
    state,
    count(*) as messages
from hyperdrip.message
group by state
order by state;
