"""A PgBouncer of the tests' own, in front of their server.

It is as strict as its mode allows: between two transactions of its clients every session is
emptied (`discard all`), so whoever relies on session state fails each time and not by chance.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PLACES = (os.defpath, "/usr/local/sbin", "/usr/sbin", "/opt/homebrew/bin")
MISSING = "PgBouncer is not installed; on Debian and Ubuntu: apt install pgbouncer"
PORT = 6432
DEADLINE_SECONDS = 20.0
NOBODY = "nobody"

# It ends with whoever holds the other end of its standard input, also when that one is killed.
KEEPER = """
"$1" "$2/pgbouncer.ini" &
read -r _
kill -9 "$!"
wait
rm -rf "$2"
"""

CONFIGURATION = """
[databases]
* = host={host} port={port} auth_user={user}

[pgbouncer]
pool_mode = {mode}
listen_port = {listen_port}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users.txt
admin_users = {admin}
max_client_conn = 500
default_pool_size = {pool_size}
server_round_robin = 1
server_reset_query_always = 1
server_idle_timeout = 10
server_login_retry = 1
"""


def find_pgbouncer(name: str = "pgbouncer") -> str | None:
    """Where the program is, on PATH or where systems put what only administrators use; or None."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *PLACES)))


def pooled(dsn: str, folder: Path | str) -> str:
    """The address of the same database through the pooler in `folder`."""
    parts = conninfo_to_dict(dsn)
    return make_conninfo(host=str(folder), port=PORT, user=parts["user"], dbname=parts["dbname"])


class Pooler:
    """A running PgBouncer, on a unix socket in a folder of its own."""

    def __init__(
        self, program: str, dsn: str, *, mode: str = "transaction", pool_size: int = 50
    ) -> None:
        """Start it in front of the server of `dsn`, whose user looks up the other users."""
        self.folder = Path(tempfile.mkdtemp(prefix="hyperdrip-pooler-", dir="/tmp"))
        self._user = ""
        with closing(psycopg.connect(dsn)) as conn:
            server = conn.info
            self._user = server.user
            users = self.folder / "users.txt"
            users.write_text(f'"{_doubled(server.user)}" "{_doubled(server.password)}"\n')
            (self.folder / "pgbouncer.ini").write_text(
                CONFIGURATION.format(
                    host=_quoted(server.host),
                    port=server.port,
                    user=_quoted(server.user),
                    admin=server.user,
                    mode=mode,
                    listen_port=PORT,
                    folder=self.folder,
                    pool_size=pool_size,
                )
                + _runs_as(self.folder, Path(server.host))
            )
        with (self.folder / "log").open("wb") as log:
            self._keeper = subprocess.Popen(
                ["sh", "-c", KEEPER, "sh", program, self.folder],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests; it ends after them
            )
        self._await()

    def dsn(self, dsn: str) -> str:
        """The address of the same database through this pooler."""
        return pooled(dsn, self.folder)

    def console(self) -> psycopg.Connection:
        """A connection to its console, which takes its own commands."""
        console = make_conninfo(
            host=str(self.folder), port=PORT, user=self._user, dbname="pgbouncer"
        )
        return psycopg.connect(console, autocommit=True, cursor_factory=psycopg.ClientCursor)

    def stop(self) -> None:
        """End it, whoever is still connected, and remove its folder."""
        self._keeper.communicate()

    def _await(self) -> None:
        ends = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                self.console().close()
            except psycopg.OperationalError as error:
                if time.monotonic() > ends:
                    told = (self.folder / "log").read_text()
                    self.stop()
                    raise AssertionError(f"PgBouncer does not start: {error}\n{told}") from error
                time.sleep(0.02)
            else:
                return


def _runs_as(folder: Path, server_folder: Path) -> str:
    """Root is not allowed to run it: then the user whose server it has to reach."""
    if os.geteuid() != 0:
        return ""
    user = NOBODY
    if server_folder.is_absolute() and server_folder.stat().st_uid != 0:
        user = pwd.getpwuid(server_folder.stat().st_uid).pw_name
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, user)
    return f"user = {user}\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _doubled(text: str) -> str:
    return text.replace('"', '""')
