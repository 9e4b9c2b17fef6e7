-- Stop a locked lead that has unsubscribed, whatever became of its run, with the reason and the message that made
-- it do so (null: not known); one row if it had not unsubscribed before: its id.
update hyperdrip.lead
set
    status = 'STOPPED',
    status_reason = %(reason)s,
    unsubscribed_run = %(run)s,
    unsubscribed_number = %(number)s
where
    id = %(lead_id)s
    and not (status = 'STOPPED' and starts_with(coalesce(status_reason, ''), 'unsubscribed'))
returning id;
