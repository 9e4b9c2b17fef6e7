-- One row: is a day closed (a day without a row was never opened), and is a message of it planned or being
-- sent?
select
    coalesce(
        (
            select quota_day.is_closed
            from hyperdrip.quota_day as quota_day
            where quota_day.day = %(day)s
        ), true
    ) as is_closed,
    exists(
        select 1
        from hyperdrip.message as message
        where message.day = %(day)s and message.state in ('planned', 'sending')
    ) as has_open;
