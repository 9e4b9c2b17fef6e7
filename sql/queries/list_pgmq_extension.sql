-- One row if the pgmq extension can be had: its default version, and the installed one or null.
select
    default_version,
    installed_version
from pg_available_extensions
where name = 'pgmq'
order by name;
