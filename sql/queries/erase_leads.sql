-- Take everything personal out of leads; the leads are locked already. The address that is left belongs to
-- nobody and cannot be added.
update hyperdrip.lead
set
    name = 'erased',
    email = 'erased-' || id || '@invalid',
    phone = null,
    notes = null,
    fields = '{}',
    consent_source = null,
    consent_at = null,
    status = 'STOPPED',
    status_reason = 'erased'
where id = any(%(lead_ids)s::bigint[]);
