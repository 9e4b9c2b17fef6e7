-- What has been applied: name, checksum, time; by name.
select
    name,
    checksum,
    applied_at
from hyperdrip.schema_migration
order by name;
