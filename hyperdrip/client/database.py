"""Methods of the library door: the database itself."""

from collections.abc import Sequence
from typing import Any

from hyperdrip import fence, maintenance, migrations, roles
from hyperdrip.client.base import Base
from hyperdrip.db import query


class DatabaseMethods(Base):
    """Migrating, looking at and resetting the database."""

    def migration_status(self) -> migrations.Status:
        """What is applied and what is pending."""
        with self._session() as conn:
            return migrations.read_status(conn)

    def database_name(self) -> str:
        """The name of the database."""
        with self._session() as conn:
            row = conn.execute(query("get_database_name")).fetchone()
            assert row is not None
            return str(row[0])

    def database_status(self) -> dict[str, Any]:
        """Where the database is, what it holds and what is applied; camelCase keys."""
        with self._session() as conn:
            return maintenance.describe(conn, self.dsn)

    def read_fence(self) -> fence.Fence:
        """Is this the database that was migrated, or a copy of it, which may not send?"""
        with self._session() as conn:
            return fence.read_fence(conn)

    def unlock(self, seen: fence.Fence) -> None:
        """Let a copy send from now on. Raises: ConflictError when it is not as `seen` any more."""
        with self._session() as conn:
            fence.unlock(conn, seen)

    def roles_script(self, names: roles.Roles) -> str:
        """The SQL that makes three roles and grants each what it needs here, and no more."""
        with self._session() as conn:
            return roles.script(conn, names)

    def apply_roles(self, names: roles.Roles) -> None:
        """Make the roles and grant them what they need. Raises: DatabaseError if not allowed."""
        self._refuse_borrowed("apply_roles")
        with self._session() as conn:
            roles.apply(conn, names)

    def run_psql(self, arguments: Sequence[str]) -> int:
        """Run psql on the database, at the caller's terminal; returns its exit code."""
        self._refuse_borrowed("run_psql")
        folder = self._server.bin_folder if self._server is not None else None
        return maintenance.run_psql(self.dsn, arguments, bin_folder=folder)

    def reset(self) -> None:
        """Drop everything that Hyperdrip made, data and queues, and migrate anew.

        Raises: ConflictError while workers live; SettingsError when the data belongs to another
        environment, or the connection is a caller's.
        """
        self._refuse_borrowed("reset")
        with self._session() as conn:
            self._check_identity(conn)
            known = roles.read_roles(conn)
            maintenance.drop_everything(conn)
        self.migrate()
        with self._session() as conn:
            roles.apply_again(conn, known)
