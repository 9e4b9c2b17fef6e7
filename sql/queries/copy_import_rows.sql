-- Stage rows of a file.
copy hyperdrip.import_row (batch, line, name, email, phone, notes, fields, cells) from stdin;
