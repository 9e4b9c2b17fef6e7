-- One row if the database was migrated to the end: the stored fingerprint, and that of this database.
select
    instance.fingerprint as stored,
    control.system_identifier
    || '/'
    || (
        select db.oid
        from pg_database as db
        where db.datname = current_database()
    ) as own
from hyperdrip.instance
cross join pg_control_system() as control;
