-- One row: has this database ever been migrated?
select to_regclass('hyperdrip.schema_migration') is not null as has_table;
