-- Insert leads in the order given; one row each: the id and the address, by id.
with inserted as (
    insert into hyperdrip.lead (
        name, email, phone, notes, fields, import_id,
        campaign, campaign_version, max_messages, start_on, created_at
    )
    select
        given.name,
        given.email,
        given.phone,
        given.notes,
        given.fields,
        %(import_id)s::bigint,
        %(campaign)s::text,
        %(campaign_version)s::integer,
        %(max_messages)s::integer,
        %(start_on)s::date,
        %(now)s::timestamptz
    from unnest(
        %(names)s::text[], %(emails)s::text[], %(phones)s::text[], %(notes)s::text[], %(fields)s::jsonb[]
    ) with ordinality as given (name, email, phone, notes, fields, position)
    order by given.position
    returning id, email
)

select
    id,
    email
from inserted
order by id;
