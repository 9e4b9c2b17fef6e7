-- Move the newest day ever opened forward, never back.
update hyperdrip.instance
set newest_day = %(today)s
where newest_day is null or newest_day < %(today)s;
