-- Add the domains that have no row yet: their next message may go at once.
insert into hyperdrip.domain_pace (domain)
select given.domain
from unnest(%(domains)s::text[]) as given (domain)
order by given.domain
on conflict (domain) do nothing;
