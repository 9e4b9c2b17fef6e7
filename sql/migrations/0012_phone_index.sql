-- A phone is compared by an expression of its own instead of a stored column: PostgreSQL worked that column out anew at
-- every update of its row, so at every message, for more than the whole rest of the update.

-- What a phone is compared by: its digits, and a plus sign in front instead of 00.
create function hyperdrip.phone_key(phone text) returns text
language sql immutable parallel safe
as $$
    select regexp_replace(regexp_replace($1, '[^0-9+]', '', 'g'), '^00', '+')
$$;

alter table hyperdrip.lead drop column phone_key;
create unique index lead_phone_key on hyperdrip.lead (hyperdrip.phone_key(phone));

create or replace function hyperdrip.refuse_taken(email text, phone text) returns void
language plpgsql volatile
as $$
declare
    taken record;
    why text;
begin
    select lead.id, lower(lead.email) = lower(refuse_taken.email) as is_email into taken
    from hyperdrip.lead as lead
    where
        lower(lead.email) = lower(refuse_taken.email)
        or hyperdrip.phone_key(lead.phone) = hyperdrip.phone_key(refuse_taken.phone)
    order by lead.id
    limit 1;
    if found then
        perform hyperdrip.refuse(format(
            '%s belongs to lead_%s already; see: hyperdrip leads show lead_%s',
            case when taken.is_email then 'address ' || email else 'phone ' || phone end, taken.id, taken.id
        ), 'unique_violation');
    end if;
    select min(suppression.reason) into why
    from hyperdrip.suppression as suppression
    where suppression.email_key = any(hyperdrip.suppression_keys(refuse_taken.email));
    if why is not null then
        perform hyperdrip.refuse(format('email=%s is suppressed (%s): never write to it', email, why));
    end if;
end
$$;
