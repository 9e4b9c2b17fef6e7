-- Remove staged rows with one of the given addresses, of imports that were killed or have not decided yet.
-- Those that are locked are being removed by their own import.
with stale as materialized (
    select ctid
    from hyperdrip.import_row
    where email_key = any(select lower(given.email) from unnest(%(emails)s::text[]) as given (email))
    order by batch, line
    for update skip locked
)

delete from hyperdrip.import_row
where ctid in (select stale.ctid from stale);
