-- Take what a sender or a recipient's server said out of the messages of leads, of every run.
update hyperdrip.message
set
    error = null,
    provider_id = null
where lead_id = any(%(lead_ids)s::bigint[]) and (error is not null or provider_id is not null);
