-- One row: the name of this database.
select current_database() as name;
