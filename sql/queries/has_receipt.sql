-- One row: was the transaction with this receipt committed, as far as one can see now?
select exists(
    select 1
    from hyperdrip.receipt
    where token = %(token)s::uuid
) as has_receipt;
