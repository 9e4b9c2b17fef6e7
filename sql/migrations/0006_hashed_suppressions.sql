-- Erased addresses at every claim: whether there are any is one look at an index, however many plain addresses
-- are suppressed, and the key of the hashes is read once for a whole wave.
create index suppression_hashed on hyperdrip.suppression (email_key) where email_key like 'sha256:%';

create function hyperdrip.suppression_hash(hash_key text, address text) returns text
language sql stable
as $$
    select 'sha256:' || encode(sha256(convert_to($1 || lower($2), 'UTF8')), 'hex')
$$;

-- The two keys under which an address may be suppressed: itself in lower case, and its keyed hash.
create or replace function hyperdrip.suppression_keys(address text) returns text[]
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select array[lower($1), hyperdrip.suppression_hash(instance.hash_key, $1)]
    from hyperdrip.instance
$$;

-- Those of the given leads whose address is suppressed by its hash, by id. As the owner, who alone reads the key.
create function hyperdrip.list_hash_suppressed(lead_ids bigint[]) returns setof bigint
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select 1 from hyperdrip.suppression where email_key like 'sha256:%') then
        return query
        select lead.id
        from hyperdrip.lead as lead
        cross join hyperdrip.instance as instance
        where
            lead.id = any(lead_ids)
            and exists (
                select 1
                from hyperdrip.suppression as suppression
                where suppression.email_key = hyperdrip.suppression_hash(instance.hash_key, lead.email)
            )
        order by lead.id;
    end if;
end
$$;

revoke execute on function hyperdrip.list_hash_suppressed(bigint[]) from public;
