-- Close a day if none of its messages is planned or being sent; one row if it was closed.
update hyperdrip.quota_day as quota_day
set is_closed = true
where
    quota_day.day = %(day)s
    and quota_day.reserved = 0
    and not exists (
        select 1
        from hyperdrip.message as message
        where message.day = quota_day.day and message.state in ('planned', 'sending')
    )
returning quota_day.day;
