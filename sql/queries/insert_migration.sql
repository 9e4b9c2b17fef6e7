-- Record what was applied.
insert into hyperdrip.schema_migration (name, checksum) values (%(name)s, %(checksum)s);
