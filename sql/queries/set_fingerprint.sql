-- Store another fingerprint if the stored one is still the given one; one row if it was.
update hyperdrip.instance
set fingerprint = %(fingerprint)s
where fingerprint = %(stored)s
returning fingerprint;
