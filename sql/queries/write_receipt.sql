-- Leave a receipt of this transaction, unless it has written nothing, and take away those that nobody can be
-- asking for any more; one row if it was left.
with written as (
    insert into hyperdrip.receipt (token)
    select %(token)s::uuid
    where pg_current_xact_id_if_assigned() is not null
    returning token
),

gone as (
    delete from hyperdrip.receipt as receipt
    where
        receipt.written_at < clock_timestamp() - interval '10 minutes'
        and pg_current_xact_id_if_assigned() is not null
)

select token
from written;
