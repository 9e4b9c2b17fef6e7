-- One row: does this session refuse writes, on a standby or because somebody set it so?
select current_setting('transaction_read_only')::boolean as is_read_only;
