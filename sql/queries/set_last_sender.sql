-- Remember which sender sent last.
update hyperdrip.instance
set last_sender = %(sender)s
where last_sender is distinct from %(sender)s;
