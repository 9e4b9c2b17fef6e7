-- One row: the isolation level of this transaction.
select current_setting('transaction_isolation') as level;
