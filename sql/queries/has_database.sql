-- One row if this cluster has a database of that name.
select oid
from pg_database
where datname = %(name)s;
