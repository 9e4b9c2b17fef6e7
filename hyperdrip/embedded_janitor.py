"""Stops an embedded server when its last user has gone, however it went.

Runs on its own, as a script and with the standard library alone: `embedded` starts it beside each
server. Every process that uses the server holds a shared lock on the users' file, and the kernel
drops that lock even when the process is killed; so whoever gets it exclusively is alone.

Arguments: the folder of pg_ctl, the data folder, the system user that runs the server (or nothing),
the users' lock file, the janitor's own lock file.
"""

import fcntl
import os
import subprocess
import sys
import time
from typing import Any

LINGER_SECONDS = 1.0  # commands that follow each other closely share one run of the server


def main() -> None:
    """Leave whoever started us, wait for the last user to go, stop the server, and end."""
    bin_folder, data, user, users_lock, own_lock = sys.argv[1:]
    own = os.open(own_lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # this server has a janitor already
    if os.fork():
        return  # the child keeps the lock; nobody has to wait for it
    users = os.open(users_lock, os.O_RDWR | os.O_CREAT, 0o600)
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(LINGER_SECONDS)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        stop(bin_folder, data, user)
        # Before the users' lock: whoever comes next has to see that there is no janitor any more.
        os.close(own)
        return


def stop(bin_folder: str, data: str, user: str) -> bool:
    """Stop the server of a data folder and wait until it has stopped; False when none runs."""
    as_user: dict[str, Any] = {}
    if user:
        as_user = {"user": user, "group": user, "extra_groups": []}
    code: int = subprocess.call(
        [f"{bin_folder}/pg_ctl", "-D", data, "-m", "fast", "-w", "-s", "stop"],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_user,
    )
    return code == 0


if __name__ == "__main__":
    main()
