-- Stop or start the whole instance; one row with what it was before.
update hyperdrip.instance as instance
set is_paused = %(is_paused)s
from (select old.is_paused from hyperdrip.instance as old for update) as before
returning before.is_paused;
