-- Write down what came of an import.
update hyperdrip.lead_import
set
    read_count = %(read)s,
    added_count = %(added)s,
    updated_count = %(updated)s,
    duplicate_count = %(duplicates)s,
    rejected_count = %(rejected)s,
    suppressed_count = %(suppressed)s,
    enrolled_count = %(enrolled)s,
    first_day = %(first_day)s,
    last_day = %(last_day)s
where id = %(import_id)s;
