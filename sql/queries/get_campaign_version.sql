-- One row if the campaign exists: its newest version.
select max(version) as version
from hyperdrip.campaign
where name = %(name)s
having max(version) is not null;
