"""A primary and a synchronous standby that follows it, in data folders of their own."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from hyperdrip import embedded

CONFIGURATION = """
listen_addresses = '127.0.0.1'
max_connections = 30
timezone = 'UTC'
"""


@dataclass
class Cluster:
    """One server. As root it runs as the embedded server's system user, as PostgreSQL demands."""

    folder: Path
    port: int

    @classmethod
    def _place(cls, folder: Path) -> "Cluster":
        cluster = cls(folder, _free_port())
        cluster.data.mkdir(parents=True, mode=0o700)
        if os.geteuid() == 0:
            embedded._ensure_system_user()
            embedded._open_for_passing(folder)
            for path in (folder, cluster.data):
                shutil.chown(path, embedded.SYSTEM_USER, embedded.SYSTEM_USER)
        return cluster

    @classmethod
    def make(cls, folder: Path) -> "Cluster":
        """Make a primary and start it."""
        cluster = cls._place(folder)
        cluster._run(
            "initdb", "-D", cluster.data, "-U", "postgres", "--auth=trust", "-N", "-E", "UTF8"
        )
        with (cluster.data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION)
        cluster.start()
        return cluster

    def make_standby(self, folder: Path) -> "Cluster":
        """A standby that follows this primary; every commit waits for it from now on."""
        standby = self._place(folder)
        source = make_conninfo(self.dsn(), application_name="standby")
        self._run(
            "pg_basebackup", "-D", standby.data, "-R", "-X", "stream", "-c", "fast", "-d", source
        )
        standby.start()
        with self.connect() as conn:
            conn.execute("alter system set synchronous_standby_names = '*'")
            conn.execute("select pg_reload_conf()")
        return standby

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def dsn(self) -> str:
        return make_conninfo(
            "", host="127.0.0.1", port=self.port, user="postgres", dbname="postgres"
        )

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn(), autocommit=True)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder}"
        self._run(
            "pg_ctl", "-D", self.data, "-l", self.folder / "log", "-o", options, "-w", "start"
        )

    def stop(self, mode: str = "immediate") -> None:
        """Stop; `immediate` is a crash."""
        self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop", is_checked=False)

    def promote(self) -> None:
        """Make a primary of a standby."""
        self._run("pg_ctl", "-D", self.data, "-w", "promote")
        with self.connect() as conn:
            conn.execute("alter system set synchronous_standby_names = ''")
            conn.execute("select pg_reload_conf()")

    def _run(self, program: str, *arguments: str | Path, is_checked: bool = True) -> None:
        package = embedded._wheel_folder()
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            package = embedded._reachable(package, self.folder.parent)
            user = embedded.SYSTEM_USER
            as_user = {"user": user, "group": user, "extra_groups": []}
        subprocess.run(
            [package / "pginstall18" / "bin" / program, *arguments],
            check=is_checked,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **as_user,
        )


@contextmanager
def primary_and_standby(folder: Path) -> Iterator[tuple[Cluster, Cluster]]:
    """Two servers in a short path, stopped and gone at the end."""
    primary = Cluster.make(folder / "a")
    standby = None
    try:
        standby = primary.make_standby(folder / "b")
        yield primary, standby
    finally:
        for cluster in (primary, standby):
            if cluster is not None:
                cluster.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
