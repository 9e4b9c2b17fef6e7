-- The names of all campaigns, by name.
select distinct name
from hyperdrip.campaign
order by name;
