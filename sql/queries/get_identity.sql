-- One row if the database was migrated to the end: environment and time zone, which every version has.
select
    environment,
    time_zone
from hyperdrip.instance;
