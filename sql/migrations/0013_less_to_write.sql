-- In the order in which workers lock them.
lock table hyperdrip.lead, hyperdrip.message in access exclusive mode;

-- Workers look the messages of a wave up by the envelopes that they have read: neighbours in one index, instead of one
-- search for each. It also finds all messages of a day, as the index that it replaces did.
create index message_envelope on hyperdrip.message (day, envelope_id);
drop index hyperdrip.message_day;

-- Room for three versions of a message on its page: settled, claimed, and planned, which another worker's transaction
-- may still need then. Without it two of five went to another page, and into each index.
alter table hyperdrip.message set (fillfactor = 30);

-- An envelope is known by its day and its id, so no id is given out twice on one day: also not when its queue was
-- dropped and is made again.
create or replace function hyperdrip.create_queue(queue text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    is_new boolean;
    newest_id bigint;
begin
    perform hyperdrip.require_own_queue(queue);
    -- As PGMQ does, so that nobody else makes it meanwhile.
    perform pg_advisory_xact_lock(hashtext('pgmq.queue_' || queue));
    is_new := not exists (select 1 from pgmq.meta where meta.queue_name = queue);
    perform pgmq.create(queue_name => queue);
    perform hyperdrip.grant_queue(queue);
    if is_new then
        select max(message.envelope_id) into newest_id
        from hyperdrip.message as message
        where message.day = right(queue, 10)::date;
        if newest_id is not null then
            perform setval(pg_get_serial_sequence(format('pgmq.%I', 'q_' || queue), 'msg_id'), newest_id);
        end if;
    end if;
end
$$;

-- The next day of a lead is in the ledger: it is looked up when it is asked for, instead of being written at every
-- message.
alter table hyperdrip.lead drop column next_scheduled_for;

create or replace function hyperdrip.add_lead(
    name text,
    email text,
    phone text default null,
    notes text default null,
    fields jsonb default '{}',
    max_messages integer default null,
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
    step_count integer;
    days date[];
    new_id bigint;
begin
    name := hyperdrip.checked_line('name', name, 200);
    email := hyperdrip.checked_email(email);
    phone := hyperdrip.checked_phone(phone);
    notes := nullif(hyperdrip.checked_text('notes', 'have', notes, 10000), '');
    fields := hyperdrip.checked_fields(coalesce(fields, '{}'));
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
    select nullif(count(*), 0)::integer into step_count
    from hyperdrip.campaign_step as step
    where step.campaign = add_lead.campaign and step.version = newest_version;
    if max_messages > step_count then
        perform hyperdrip.refuse(format(
            'max-messages=%s is more than the campaign %s has steps (%s)',
            max_messages, hyperdrip.shown(campaign), step_count
        ));
    end if;
    max_messages := coalesce(max_messages, step_count, 5);
    days := hyperdrip.days_of_new_lead(
        here, today, campaign, newest_version, max_messages, start, horizon_days
    );

    perform hyperdrip.create_queues(here.environment, days);
    insert into hyperdrip.lead (
        name, email, phone, notes, fields,
        campaign, campaign_version, max_messages, start_on, created_at
    )
    values (
        add_lead.name, add_lead.email, add_lead.phone, add_lead.notes, add_lead.fields,
        add_lead.campaign, newest_version, add_lead.max_messages, add_lead.start, at_instant
    )
    returning lead.id into new_id;
    perform hyperdrip.enqueue_run(
        here.environment, new_id, case when with_email then email end, campaign, newest_version, days
    );
    return new_id;
end
$$;
