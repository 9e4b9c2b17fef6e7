-- One row: the name of the newest schema migration applied, or null.
select max(name) as newest
from hyperdrip.schema_migration
where not starts_with(name, 'pgmq ');
