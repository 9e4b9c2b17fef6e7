-- One row: which cluster and database this is.
select
    control.system_identifier
    || '/'
    || (
        select db.oid
        from pg_database as db
        where db.datname = current_database()
    ) as fingerprint
from pg_control_system() as control;
