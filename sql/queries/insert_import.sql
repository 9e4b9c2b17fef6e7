-- Record an import; one row: its id.
insert into hyperdrip.lead_import (source) values (%(source)s)
returning id;
