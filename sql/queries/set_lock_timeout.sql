-- Until the transaction ends, give up on a lock after so many seconds. One row: the setting.
select set_config('lock_timeout', %(seconds)s::integer || 's', true) as lock_timeout;
