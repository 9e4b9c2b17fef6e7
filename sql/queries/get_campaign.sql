-- A version of a campaign (null: the newest): one row of version, settings, paused or not, when it was
-- stored; none if it is not there.
select
    version,
    settings,
    is_paused,
    created_at
from hyperdrip.campaign
where name = %(name)s and (%(version)s::integer is null or version = %(version)s::integer)
order by version desc
limit 1;
