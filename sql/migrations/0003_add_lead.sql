-- hyperdrip.add_lead: a program enrols a lead from SQL, inside its own transaction. The rules, the plan, the
-- rows and the words of a refusal are those of `hyperdrip add-lead`; the smaller functions are its parts.

-- Raise an error of one line.
create function hyperdrip.refuse(words text, condition text default 'invalid_parameter_value') returns void
language plpgsql volatile
as $$
begin
    raise exception using errcode = condition, message = words;
end
$$;

-- A value as an error shows it: cut, in quotes, on one line.
create function hyperdrip.shown(value text, longest integer default 60) returns text
language sql immutable
as $$
    select '''' || regexp_replace(left($1, $2), '[\u0001-\u001f\u007f-\u009f\u2028\u2029]', '?', 'g') || ''''
$$;

-- A text without the white space around it, whatever kind of white space that is; null stays null.
create function hyperdrip.stripped(value text) returns text
language sql immutable
as $$
    select regexp_replace(
        $1,
        '^[\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+'
        '|[\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$',
        '', 'g'
    )
$$;

-- One line of text, checked.
create function hyperdrip.checked_line(what text, value text, longest integer) returns text
language plpgsql immutable
as $$
declare
    line text := coalesce(hyperdrip.stripped(regexp_replace(value, '\u00a0', ' ', 'g')), '');
begin
    if line = '' then
        perform hyperdrip.refuse(what || ' is empty; every lead needs one');
    end if;
    if length(line) > longest then
        perform hyperdrip.refuse(format('%s has %s characters; at most %s fit', what, length(line), longest));
    end if;
    if line ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' then
        perform hyperdrip.refuse(format(
            '%s=%s has control characters or a line break', what, hyperdrip.shown(line)
        ));
    end if;
    return line;
end
$$;

-- Text of several lines, checked; empty when there is none. `has`: the verb that goes with `what`.
create function hyperdrip.checked_text(what text, has text, value text, longest integer) returns text
language plpgsql immutable
as $$
declare
    lines text := coalesce(hyperdrip.stripped(value), '');
begin
    if length(lines) > longest then
        perform hyperdrip.refuse(format(
            '%s %s %s characters; at most %s fit', what, has, length(lines), longest
        ));
    end if;
    if lines ~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028\u2029]' then
        perform hyperdrip.refuse(format(
            '%s %s control characters; only line breaks and tabs are fine', what, has
        ));
    end if;
    return lines;
end
$$;

-- An address of plain ASCII, its domain in lower case. International ones need tables that are not here.
create function hyperdrip.checked_email(value text) returns text
language plpgsql immutable
as $$
declare
    address text := coalesce(hyperdrip.stripped(regexp_replace(value, '\u00a0', ' ', 'g')), '');
    domain text := lower(split_part(address, '@', 2) collate "C");
begin
    if address ~ '[^\u0001-\u007f]' or domain ~ '(^|[.])xn--' then
        perform hyperdrip.refuse(format(
            'email=%s is international, which only hyperdrip add-lead takes', hyperdrip.shown(address, 80)
        ));
    end if;
    if
        length(address) > 254
        or length(domain) > 253
        or address !~ '^[A-Za-z0-9_!#$%&''*+/=?^`{|}~-]+([.][A-Za-z0-9_!#$%&''*+/=?^`{|}~-]+)*@[^@]+$'
        or domain !~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
        or domain !~ '[a-z]$'
        or (domain !~ '[.]' and domain <> 'test')
        or domain ~ '(^|[.])..--'
        or domain ~ '(^|[.])(arpa|invalid|local|localhost|onion)$'
    then
        perform hyperdrip.refuse(format(
            'email=%s is no e-mail address: write one such as user@example.com', hyperdrip.shown(address, 80)
        ));
    end if;
    return split_part(address, '@', 1) || '@' || domain;
end
$$;

-- A phone number as it was written, or null.
create function hyperdrip.checked_phone(value text) returns text
language plpgsql immutable
as $$
declare
    phone text := coalesce(hyperdrip.stripped(regexp_replace(value, '\u00a0', ' ', 'g')), '');
begin
    if phone = '' then
        return null;
    end if;
    if
        phone !~ '^[+]?[0-9 ()./-]+$'
        or length(regexp_replace(phone, '[^0-9]', '', 'g')) not between 3 and 20
    then
        perform hyperdrip.refuse(format(
            'phone=%s is no phone number; write digits, such as +1 202 555 0143', hyperdrip.shown(phone)
        ));
    end if;
    if length(phone) > 40 then
        perform hyperdrip.refuse(format('phone has %s characters; at most 40 fit', length(phone)));
    end if;
    return phone;
end
$$;

-- Further fields: an object of texts.
create function hyperdrip.checked_fields(fields jsonb) returns jsonb
language plpgsql immutable
as $$
declare
    found jsonb := '{}';
    field record;
    field_name text;
begin
    if jsonb_typeof(fields) <> 'object' then
        perform hyperdrip.refuse(format(
            'fields are of type %s; write an object such as {"company": "Northwind"}', jsonb_typeof(fields)
        ));
    end if;
    for field in select each.key, each.value from jsonb_each(fields) as each loop
        field_name := hyperdrip.stripped(field.key);
        if
            length(field_name) not between 1 and 60
            or field_name ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]'
        then
            perform hyperdrip.refuse(format(
                'field name %s is empty, longer than 60 characters, or has control characters',
                hyperdrip.shown(field_name)
            ));
        end if;
        if jsonb_typeof(field.value) <> 'string' then
            perform hyperdrip.refuse(format(
                'field %s is of type %s; fields are texts', hyperdrip.shown(field_name), jsonb_typeof(field.value)
            ));
        end if;
        found := found || jsonb_build_object(field_name, hyperdrip.checked_text(
            'field ' || hyperdrip.shown(field.key), 'has', field.value #>> '{}', 2000
        ));
    end loop;
    return found;
end
$$;

-- The instant that planning goes by: the server's clock, which `set hyperdrip.now = ...` moves in tests.
create function hyperdrip.planner_now(environment text) returns timestamptz
language plpgsql volatile
as $$
declare
    moved text := nullif(current_setting('hyperdrip.now', true), '');
begin
    if moved is null then
        return clock_timestamp();
    end if;
    if environment <> 'test' then
        perform hyperdrip.refuse(format(
            'hyperdrip.now moves the clock and works only where the environment is test; this one is %s:'
            ' reset hyperdrip.now', environment
        ));
    end if;
    if moved !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}.*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$' then
        perform hyperdrip.refuse(format(
            'hyperdrip.now=%s is no instant with offset such as 2024-01-15T09:00:00Z', hyperdrip.shown(moved)
        ));
    end if;
    return moved::timestamptz;
end
$$;

-- Refuse an address or phone that somebody has, and an address that must never be written to.
create function hyperdrip.refuse_taken(email text, phone text) returns void
language plpgsql volatile
as $$
declare
    given_key text := regexp_replace(regexp_replace(phone, '[^0-9+]', '', 'g'), '^00', '+');
    taken record;
    why text;
begin
    select lead.id, lower(lead.email) = lower(refuse_taken.email) as is_email into taken
    from hyperdrip.lead as lead
    where lower(lead.email) = lower(refuse_taken.email) or lead.phone_key = given_key
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

-- The first day from `earliest` on with room for one message under a daily maximum.
create function hyperdrip.first_free_day(earliest date, daily_max integer) returns date
language plpgsql stable
as $$
declare
    candidate date := earliest;
begin
    while exists (
        select 1
        from hyperdrip.quota_day as quota_day
        where
            quota_day.day = candidate
            and coalesce(quota_day.capacity, daily_max) <= quota_day.reserved + quota_day.sent
    ) loop
        candidate := candidate + 1;
    end loop;
    return candidate;
end
$$;

-- A day for each message of one lead; null when the last of them would come after `last_day`. The first of
-- the delays counts for nothing.
create function hyperdrip.first_fit(first_day date, last_day date, delays integer[], daily_max integer)
returns date[]
language plpgsql stable
as $$
declare
    days date[] := '{}';
    wanted date := first_day;
begin
    for number in 1 .. cardinality(delays) loop
        if number > 1 then
            wanted := days[number - 1] + delays[number];
        end if;
        if wanted > last_day then
            return null;
        end if;
        days := days || hyperdrip.first_free_day(wanted, daily_max);
        if days[number] > last_day then
            return null;
        end if;
    end loop;
    return days;
end
$$;

-- What to do about a plan that does not fit: the daily maximum with which it would, when there is one.
create function hyperdrip.cure_for_no_room(
    first_day date, last_day date, delays integer[], daily_max integer
) returns text
language plpgsql stable
as $$
declare
    too_low bigint := daily_max;
    fitting bigint := daily_max::bigint + 1;
    middle bigint;
begin
    while hyperdrip.first_fit(first_day, last_day, delays, fitting::integer) is null loop
        too_low := fitting;
        fitting := daily_max + 2 * (fitting - daily_max);
        if first_day > last_day or fitting > 1000000000 then
            return 'fewer messages or an earlier start would fit';
        end if;
    end loop;
    while fitting - too_low > 1 loop
        middle := (too_low + fitting) / 2;
        if hyperdrip.first_fit(first_day, last_day, delays, middle::integer) is null then
            too_low := middle;
        else
            fitting := middle;
        end if;
    end loop;
    return format(
        'a daily maximum of %s would fit (now %s): hyperdrip quota set default %s', fitting, daily_max, fitting
    );
end
$$;

-- Create the queues of days that have none yet. They stay locked until the transaction ends, so the planner
-- lock is held already: whoever waits for one of these queues holds nothing that is needed here.
create function hyperdrip.create_queues(environment text, days date[]) returns void
language plpgsql volatile
as $$
declare
    missing text[] := array(
        select needed.name
        from unnest(days) as given (day)
        cross join lateral hyperdrip.queue_of(environment, given.day) as needed (name)
        where not exists (select 1 from pgmq.meta where meta.queue_name = needed.name)
        order by needed.name
    );
    queue text;
begin
    if cardinality(missing) > 100 then
        perform hyperdrip.refuse(format(
            '%s queues are missing and one transaction creates at most 100; hyperdrip add-lead creates each'
            ' in a transaction of its own', cardinality(missing)
        ), 'configuration_limit_exceeded');
    end if;
    foreach queue in array missing loop
        perform pgmq.create(queue_name => queue);
    end loop;
end
$$;

-- The queue of a day.
create function hyperdrip.queue_of(environment text, day date) returns text
language sql immutable
as $$
    select case when $1 = 'test' then 'test-' else '' end || 'drip-messages-' || to_char($2, 'YYYY-MM-DD')
$$;

-- Write the envelopes of a lead's first run, then its ledger rows, and count them on their days last.
create function hyperdrip.enqueue_run(
    environment text, lead_id bigint, email text, campaign text, campaign_version integer, days date[]
) returns void
language plpgsql volatile
as $$
declare
    envelope_ids bigint[] := '{}';
    envelope_id bigint;
begin
    for number in 1 .. cardinality(days) loop
        select sent.msg_id into strict envelope_id
        from pgmq.send_batch(
            queue_name => hyperdrip.queue_of(environment, days[number]),
            msgs => array[jsonb_strip_nulls(jsonb_build_object(
                'leadId', 'lead_' || lead_id, 'email', email,
                'messageNumber', number, 'scheduledDate', days[number]
            ))],
            headers => array[jsonb_build_object('run', 1)],
            delay => clock_timestamp()
        ) as sent (msg_id);
        envelope_ids := envelope_ids || envelope_id;
    end loop;
    insert into hyperdrip.message (lead_id, run, number, campaign, campaign_version, day, envelope_id)
    select
        enqueue_run.lead_id, 1, planned.number, enqueue_run.campaign, enqueue_run.campaign_version,
        planned.day, planned.envelope_id
    from unnest(days, envelope_ids) with ordinality as planned (day, envelope_id, number);

    insert into hyperdrip.quota_day (day)
    select planned.day from unnest(days) as planned (day) order by planned.day
    on conflict do nothing;
    perform 1
    from hyperdrip.quota_day as quota_day
    where quota_day.day = any(days)
    order by quota_day.day
    for no key update;
    update hyperdrip.quota_day as quota_day
    set reserved = quota_day.reserved + 1, is_closed = false
    where quota_day.day = any(days);
end
$$;

-- A day for each message of a new lead.
create function hyperdrip.days_of_new_lead(
    here hyperdrip.instance,
    today date,
    campaign text,
    version integer,
    max_messages integer,
    start date,
    horizon_days integer
) returns date[]
language plpgsql volatile
as $$
declare
    first_day date := coalesce(start, today);
    last_day date := today + horizon_days;
    delays integer[];
    days date[];
begin
    if max_messages not between 1 and 365 then
        perform hyperdrip.refuse(format('max-messages=%s is not a number from 1 to 365', max_messages));
    end if;
    if horizon_days not between 1 and 730 then
        perform hyperdrip.refuse(format('horizon_days=%s is not a number from 1 to 730', horizon_days));
    end if;
    if start < today then
        perform hyperdrip.refuse(format(
            'start=%s is in the past; today is %s (%s)', start, today, here.time_zone
        ));
    end if;
    delays := array(
        select coalesce(step.delay_days, 1)
        from generate_series(1, max_messages) as message (number)
        left join hyperdrip.campaign_step as step
            on
                step.campaign = days_of_new_lead.campaign
                and step.version = days_of_new_lead.version
                and step.number = message.number
        order by message.number
    );
    days := hyperdrip.first_fit(first_day, last_day, delays, here.daily_max);
    if days is null then
        perform hyperdrip.refuse(format(
            'no room before %s for 1 x %s messages from %s; the first day with room is %s; %s',
            last_day, max_messages, first_day, hyperdrip.first_free_day(first_day, here.daily_max),
            hyperdrip.cure_for_no_room(first_day, last_day, delays, here.daily_max)
        ), 'configuration_limit_exceeded');
    end if;
    return days;
end
$$;

create function hyperdrip.add_lead(
    name text,
    email text,
    phone text default null,
    notes text default null,
    fields jsonb default '{}',
    max_messages integer default 5,
    campaign text default 'default',
    start date default null,
    horizon_days integer default 365,
    with_email boolean default true
) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO'
set standard_conforming_strings = on
as $$
declare
    here hyperdrip.instance%rowtype;
    at_instant timestamptz;
    today date;
    newest_version integer;
    days date[];
    new_id bigint;
begin
    name := hyperdrip.checked_line('name', name, 200);
    email := hyperdrip.checked_email(email);
    phone := hyperdrip.checked_phone(phone);
    notes := nullif(hyperdrip.checked_text('notes', 'have', notes, 10000), '');
    fields := hyperdrip.checked_fields(coalesce(fields, '{}'));
    max_messages := coalesce(max_messages, 5);
    campaign := coalesce(campaign, 'default');
    horizon_days := coalesce(horizon_days, 365);
    with_email := coalesce(with_email, true);

    -- Under any other level, what is read once the lock is held could be older than the lock.
    if current_setting('transaction_isolation') <> 'read committed' then
        perform hyperdrip.refuse(format(
            'this transaction is %s and Hyperdrip plans only under read committed; set transaction'
            ' isolation level read committed',
            current_setting('transaction_isolation')
        ), 'invalid_transaction_state');
    end if;
    -- A statement of its own, so that whatever is read next has a fresh snapshot.
    perform pg_advisory_xact_lock(hashtextextended('hyperdrip.planner', 0));

    select instance.* into here from hyperdrip.instance as instance;
    if not found then
        perform hyperdrip.refuse(
            'the database has no instance row; run: hyperdrip db migrate', 'object_not_in_prerequisite_state'
        );
    end if;
    at_instant := hyperdrip.planner_now(here.environment);
    today := greatest((at_instant at time zone here.time_zone)::date, here.newest_day);
    perform hyperdrip.refuse_taken(email, phone);

    select max(version.version) into newest_version
    from hyperdrip.campaign as version
    where version.name = add_lead.campaign;
    if newest_version is null then
        perform hyperdrip.refuse(format(
            'no campaign %s; the built-in one is called default', hyperdrip.shown(campaign)
        ), 'undefined_object');
    end if;
    days := hyperdrip.days_of_new_lead(
        here, today, campaign, newest_version, max_messages, start, horizon_days
    );

    perform hyperdrip.create_queues(here.environment, days);
    insert into hyperdrip.lead (
        name, email, phone, notes, fields,
        campaign, campaign_version, max_messages, next_scheduled_for, start_on, created_at
    )
    values (
        add_lead.name, add_lead.email, add_lead.phone, add_lead.notes, add_lead.fields,
        add_lead.campaign, newest_version, add_lead.max_messages, days[1], add_lead.start, at_instant
    )
    returning lead.id into new_id;
    perform hyperdrip.enqueue_run(
        here.environment, new_id, case when with_email then email end, campaign, newest_version, days
    );
    return new_id;
end
$$;
comment on function hyperdrip.add_lead is
'adds a lead and plans its messages inside this transaction; returns its id. SQLSTATE 22023: a value that '
'cannot be taken; 23505: the lead exists; 42704: no such campaign; 53400: no room; 25000: wrong isolation';
