"""Stopping on SIGTERM and SIGINT, as a context manager that puts the old handlers back."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """A flag that a signal handler may set while the main thread waits for it.

    Unlike threading.Event it takes no lock: a handler that runs inside `wait` cannot block itself.
    """

    def __init__(self) -> None:
        """Not set."""
        self._is_set = False
        self._reader, self._writer = os.pipe()

    def is_set(self) -> bool:
        """Has it been set?"""
        return self._is_set

    def set(self) -> None:
        """Set it for good, and wake whoever waits."""
        if not self._is_set:
            self._is_set = True
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, or for `seconds`; returns whether it is set."""
        if not self._is_set:
            waiting = select.poll()  # takes any number of open files, which select.select does not
            waiting.register(self._reader, select.POLLIN)
            waiting.poll(max(0.0, seconds) * 1000)
        return self._is_set

    def __del__(self) -> None:
        """Close the pipe."""
        os.close(self._reader)
        os.close(self._writer)


class StoppedAtOnce(SystemExit):
    """A second signal: stop without finishing what is in flight."""


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Set `stop` at the first SIGTERM or SIGINT; raise StoppedAtOnce at the second.

    Does nothing outside the main thread, where no handler can be installed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise StoppedAtOnce(1)
        stop.set()

    old = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
