-- Remove the staged rows of a batch, and those of imports that were killed a day ago or more.
with ended as (
    delete from hyperdrip.import_batch
    where id = %(batch)s or started_at < clock_timestamp() - make_interval(days => 1)
    returning id
)

delete from hyperdrip.import_row
where batch in (select ended.id from ended);
