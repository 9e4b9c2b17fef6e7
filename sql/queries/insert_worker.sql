-- Register a worker; one row: its id.
insert into hyperdrip.worker (host, pid, sender)
values (%(host)s, %(pid)s, %(sender)s)
returning id;
