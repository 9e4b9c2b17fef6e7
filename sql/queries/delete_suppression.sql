-- Suppress an address no more, whether it is known in plain or by its keyed hash; one row for each that was
-- known: its reason.
delete from hyperdrip.suppression
where email_key = any(hyperdrip.suppression_keys(%(email)s::text))
returning reason;
