-- Begin an import; one row: the number of its batch.
insert into hyperdrip.import_batch default values
returning id;
