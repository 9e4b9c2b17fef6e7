"""PostgreSQL clusters of a test's own: to be killed, filled up, followed and promoted."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from hyperdrip import embedded

# As a careful person runs it: whatever was committed is on disk.
CONFIGURATION = """
listen_addresses = '127.0.0.1'
max_connections = 120
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = replica
wal_keep_size = 512MB
hot_standby = on
deadlock_timeout = 200ms
log_line_prefix = '%m [%p] '
timezone = 'UTC'
"""
BALLAST = "ballast"


@dataclass
class Cluster:
    """One server, in `folder/data`. As root it runs as the embedded server's system user."""

    folder: Path
    port: int
    is_small: bool = False

    @classmethod
    def make(cls, folder: Path, *, small_disk_mb: int = 0) -> "Cluster":
        """initdb and start; with `small_disk_mb` on a file system of its own, if root may mount."""
        cluster = cls._place(folder, small_disk_mb)
        cluster._run(
            "initdb", "-D", cluster.data, "-U", "postgres", "--auth=trust", "-N", *embedded.LOCALE
        )
        with (cluster.data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION)
        cluster.start()
        return cluster

    @classmethod
    def _place(cls, folder: Path, small_disk_mb: int) -> "Cluster":
        folder.mkdir(mode=0o711)
        is_small = False
        if small_disk_mb and os.geteuid() == 0:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={small_disk_mb}m,mode=711", "tmpfs"]
            is_small = subprocess.run([*mount, folder], check=False).returncode == 0
        cluster = cls(folder, free_port(), is_small)
        cluster.data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            embedded._ensure_system_user()
            embedded._open_for_passing(folder)
            for path in (folder, cluster.data):
                shutil.chown(path, embedded.SYSTEM_USER, embedded.SYSTEM_USER)
        return cluster

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    def dsn(self, database: str = "postgres") -> str:
        return make_conninfo(
            "",
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            dbname=database,
            sslmode="disable",
            gssencmode="disable",
        )

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn(database), autocommit=True, connect_timeout=5)

    def start(self) -> bool:
        """Start and wait until it answers; False when it could not."""
        options = f"-p {self.port} -k {self.folder}"
        log = self.folder / "log"
        return self._try("pg_ctl", "-D", self.data, "-l", log, "-o", options, "-w", "-s", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop: `immediate` is a crash, `fast` is not."""
        self._try("pg_ctl", "-D", self.data, "-m", mode, "-w", "-s", "stop")

    def remove(self) -> None:
        self.stop()
        if self.is_small:
            subprocess.run(["umount", "-l", self.folder], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def make_standby(self, folder: Path, *, small_disk_mb: int = 0) -> "Cluster":
        """A streaming standby of this server; synchronous from now on."""
        standby = self._place(folder, small_disk_mb)
        backup = ("pg_basebackup", "-D", standby.data, "-R", "-X", "stream", "-c", "fast")
        self._run(*backup, "-d", make_conninfo(self.dsn(), application_name="standby"))
        standby.start()
        self.set("synchronous_standby_names", "*")
        return standby

    def promote(self) -> None:
        """Make a primary of a standby, that waits for no standby of its own."""
        self._run("pg_ctl", "-D", self.data, "-w", "-s", "promote")
        self.set("synchronous_standby_names", "")

    def set(self, name: str, value: str) -> None:
        with self.connect() as conn:
            conn.execute(f"alter system set {name} = '{value}'")
            conn.execute("select pg_reload_conf()")

    def fill_disk(self) -> None:
        """Leave no byte free on the cluster's own file system."""
        assert self.is_small
        with suppress(OSError), (self.folder / BALLAST).open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))

    def free_disk(self) -> None:
        (self.folder / BALLAST).unlink(missing_ok=True)

    def _run(self, *command: str | Path) -> None:
        assert self._try(*command), f"{command} failed; {self.folder / 'log'}"

    def _try(self, program: str | Path, *arguments: str | Path) -> bool:
        as_user: dict[str, Any] = {}
        package = embedded._wheel_folder()
        if os.geteuid() == 0:
            package = embedded._reachable(package, self.folder.parent)
            user = embedded.SYSTEM_USER
            as_user = {"user": user, "group": user, "extra_groups": []}
        bin_folder = package / "pginstall18" / "bin"
        done = subprocess.run(
            [bin_folder / program, *arguments],
            check=False,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **as_user,
        )
        return done.returncode == 0


def many(clusters: Sequence[Cluster], database: str) -> str:
    """One address of several servers, of which the primary is wanted."""
    return make_conninfo(
        "",
        host=",".join("127.0.0.1" for _ in clusters),
        port=",".join(str(cluster.port) for cluster in clusters),
        user="postgres",
        dbname=database,
        sslmode="disable",
        gssencmode="disable",
        target_session_attrs="read-write",
        connect_timeout=3,
    )


@contextmanager
def primary_and_standby(folder: Path) -> Iterator[tuple[Cluster, Cluster]]:
    """Two servers, gone at the end."""
    with ExitStack() as stack:
        primary = Cluster.make(folder / "a")
        stack.callback(primary.remove)
        standby = primary.make_standby(folder / "b")
        stack.callback(standby.remove)
        yield primary, standby


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
