-- Roles that hold no more than they need: one plans, one sends, one only reads. sql/roles.sql grants them what
-- they need of the tables; what would need an owner runs in these functions, as the owner.

create table hyperdrip.role (
    kind text primary key check (kind in ('planner', 'worker', 'reader')),
    name text not null
);
comment on table hyperdrip.role is 'to whom the queues are granted, now and as they are made; written by sql/roles.sql';

-- Make a role that cannot log in, if there is none of that name: with the rights of whoever calls.
create function hyperdrip.make_role(name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select 1 from pg_roles where rolname = make_role.name) then
        execute format('create role %I nologin', make_role.name);
    end if;
end
$$;

-- Only our own queues.
create function hyperdrip.require_own_queue(queue text) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if queue is null or queue !~ '^(test-)?drip-messages-[0-9]{4}-[0-9]{2}-[0-9]{2}$' then
        perform hyperdrip.refuse(format('%s is not the name of a queue of this tool', hyperdrip.shown(queue)));
    end if;
end
$$;

-- Grant a queue and its archive: planners may do all with the rows, workers may not touch what is archived,
-- readers read. Workers add envelopes, because a rollover gives late messages another day.
create function hyperdrip.grant_queue(queue text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    holder record;
begin
    perform hyperdrip.require_own_queue(queue);
    -- PGMQ's own lock of a queue: two grants of one table at once would disturb each other.
    perform pg_advisory_xact_lock(hashtext('pgmq.queue_' || queue));
    for holder in
        select role.kind, role.name
        from hyperdrip.role
        inner join pg_roles on role.name = pg_roles.rolname
        order by role.kind
    loop
        execute format('grant select on pgmq.%I, pgmq.%I to %I', 'q_' || queue, 'a_' || queue, holder.name);
        execute format(
            'grant select on sequence %s to %I',
            pg_get_serial_sequence(format('pgmq.%I', 'q_' || queue), 'msg_id'), holder.name
        );
        if holder.kind = 'planner' then
            execute format(
                'grant insert, update, delete on pgmq.%I, pgmq.%I to %I',
                'q_' || queue, 'a_' || queue, holder.name
            );
        elsif holder.kind = 'worker' then
            execute format('grant insert, update, delete on pgmq.%I to %I', 'q_' || queue, holder.name);
            execute format('grant insert on pgmq.%I to %I', 'a_' || queue, holder.name);
        end if;
    end loop;
end
$$;

-- Create a queue of ours if it is not there, with its grants.
create function hyperdrip.create_queue(queue text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform hyperdrip.require_own_queue(queue);
    perform pgmq.create(queue_name => queue);
    perform hyperdrip.grant_queue(queue);
end
$$;

-- Drop the queue of a day that is closed, with its archive.
create function hyperdrip.drop_queue(queue text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform hyperdrip.require_own_queue(queue);
    if exists (
        select 1
        from hyperdrip.message as message
        where message.day = right(queue, 10)::date and message.state in ('planned', 'sending')
    ) then
        perform hyperdrip.refuse(format(
            'queue %s holds messages that are planned or being sent', hyperdrip.shown(queue)
        ), 'object_in_use');
    end if;
    perform pgmq.drop_queue(queue);
end
$$;

-- As before, through the function that grants what it creates.
create or replace function hyperdrip.create_queues(environment text, days date[]) returns void
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
        perform hyperdrip.create_queue(queue);
    end loop;
end
$$;

-- As the owner, so that nobody else has to read the key of the hashes.
alter function hyperdrip.suppression_keys(text) security definer set search_path to pg_catalog, pg_temp;

revoke execute on function
hyperdrip.grant_queue(text), hyperdrip.create_queue(text), hyperdrip.drop_queue(text), hyperdrip.suppression_keys(text)
from public;
