-- Write down that an import was undone.
update hyperdrip.lead_import
set undone_at = %(now)s
where id = %(import_id)s;
