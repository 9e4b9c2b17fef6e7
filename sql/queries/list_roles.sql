-- The roles that queues are granted to, if they exist on this server: kind and name, one row each; by kind.
select
    role.kind,
    role.name
from hyperdrip.role
inner join pg_roles on role.name = pg_roles.rolname
order by role.kind;
