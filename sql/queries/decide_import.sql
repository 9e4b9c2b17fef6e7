-- Decide what becomes of each staged row, under the planner lock: one row for each fate with its count; by
-- fate. An earlier row of the file wins over a later one, and the database over the file. Rows that are
-- planned get their lead, run and position in the order of the file. Statistics know nothing of a batch that
-- is new, so no two large sets are joined here: each row looks up its lead, and is found again by its place.
with judged as (
    select
        staged.ctid as place,
        staged.line,
        staged.phone_key,
        first_value(staged.line) over (partition by staged.email_key order by staged.line) as email_line,
        suppressed.reason as suppressed_because,
        known.id as known_id,
        known.status as known_status,
        -- The rule of `leads enroll` too: whoever was stopped otherwise wants no more.
        known.status in ('COMPLETED', 'FAILED')
        or known.status = 'STOPPED'
        and known.status_reason ~ '^(by hand(:|$)|suppressed:|import [0-9]+ was undone$)' as may_begin_again,
        known.run as known_run,
        owner.id as owner_id
    from hyperdrip.import_row as staged
    left join lateral (
        select min(suppression.reason) as reason
        from hyperdrip.suppression
        where
            %(has_suppressions)s
            and suppression.email_key = any(hyperdrip.suppression_keys(staged.email))
    ) as suppressed on true
    left join hyperdrip.lead as known on staged.email_key = lower(known.email)
    left join lateral (
        select lead.id
        from hyperdrip.lead as lead
        where hyperdrip.phone_key(lead.phone) = staged.phone_key and lead.id is distinct from known.id
        offset 0
    ) as owner on true
    where staged.batch = %(batch)s
),

fated as (
    select
        judged.*,
        case
            when judged.email_line < judged.line then 'duplicate'
            when judged.suppressed_because is not null then 'suppressed'
            when judged.known_id is not null then
                case
                    when %(existing)s = 'update' and judged.owner_id is null then 'update'
                    when %(existing)s = 'update' then 'rejected'
                    when %(existing)s = 'enroll' and judged.may_begin_again then 'enroll'
                    else 'duplicate'
                end
            when judged.owner_id is not null then 'duplicate'
        end as fate,
        case
            when judged.email_line < judged.line
                then 'the same address as line ' || judged.email_line
            when judged.suppressed_because is not null
                then 'suppressed: ' || judged.suppressed_because
            when judged.known_id is not null and %(existing)s = 'enroll'
                then 'lead_' || judged.known_id || ' is ' || judged.known_status
            when judged.known_id is not null and (%(existing)s = 'skip' or judged.owner_id is null)
                then 'the same address as lead_' || judged.known_id
            when judged.owner_id is not null
                then 'the same phone as lead_' || judged.owner_id
        end as reason
    from judged
),

phoned as (
    select
        fated.*,
        first_value(fated.line) over (
            partition by fated.phone_key, coalesce(fated.fate, 'update') = 'update' order by fated.line
        ) as first_line
    from fated
),

clashing as (
    select
        phoned.*,
        phoned.phone_key is not null
        and coalesce(phoned.fate, 'update') = 'update'
        and phoned.first_line < phoned.line as is_clash
    from phoned
),

settled as (
    select
        clashing.place,
        clashing.line,
        clashing.known_id,
        clashing.known_run,
        case
            when not clashing.is_clash then coalesce(clashing.fate, 'new')
            when clashing.fate = 'update' then 'rejected'
            else 'duplicate'
        end as fate,
        case
            when clashing.is_clash then 'the same phone as line ' || clashing.first_line
            else clashing.reason
        end as reason,
        clashing.is_clash or coalesce(clashing.reason like 'the same phone%%', false) as is_phone
    from clashing
),

placed as (
    select
        settled.*,
        case
            when settled.fate in ('new', 'enroll')
                then row_number() over (
                    partition by settled.fate in ('new', 'enroll') order by settled.line
                )
        end as position
    from settled
),

-- Ids are drawn in the order of the file.
numbered as materialized (
    select
        ordered.*,
        case
            when ordered.fate = 'new' and not %(is_dry_run)s
                then nextval(pg_get_serial_sequence('hyperdrip.lead', 'id'))
            else ordered.known_id
        end as lead_id
    from (
        select placed.*
        from placed
        order by placed.line
    ) as ordered
),

decided as (
    update hyperdrip.import_row as staged
    set
        fate = numbered.fate,
        reason = numbered.reason,
        culprit = case when numbered.is_phone then 'phone' else 'email' end,
        lead_id = numbered.lead_id,
        run = case when numbered.fate = 'enroll' then numbered.known_run + 1 else 1 end,
        position = numbered.position
    from numbered
    where staged.ctid = numbered.place
    returning staged.fate
)

select
    fate,
    count(*) as rows
from decided
group by fate
order by fate;
