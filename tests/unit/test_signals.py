"""Stopping on signals."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from hyperdrip.signals import Stop, StoppedAtOnce, stop_on_signals

SIGNALS = [signal.SIGTERM, signal.SIGINT]
DEADLINE_SECONDS = 30.0


class Unexpected(Exception):
    """A signal reached the handler that was there before."""


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture(autouse=True)
def old_handlers() -> Iterator[list[object]]:
    """Handlers of the test's own, so that a signal that gets through ends no test run."""

    def complain(number: int, _frame: FrameType | None) -> None:
        raise Unexpected(number)

    before = {number: signal.signal(number, complain) for number in SIGNALS}
    yield handlers()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_sets_the_flag(number: signal.Signals) -> None:
    stop = Stop()
    with stop_on_signals(stop):
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_signal_stops_at_once_with_exit_code_1(
    first: signal.Signals, second: signal.Signals, old_handlers: list[object]
) -> None:
    stop = Stop()
    with stop_on_signals(stop):
        signal.raise_signal(first)
        with pytest.raises(StoppedAtOnce) as stopped:
            signal.raise_signal(second)
    assert stopped.value.code == 1
    assert isinstance(stopped.value, SystemExit)
    assert handlers() == old_handlers


def test_the_old_handlers_are_put_back(old_handlers: list[object]) -> None:
    with stop_on_signals(Stop()):
        assert not set(handlers()) & set(old_handlers)
    assert handlers() == old_handlers


def test_the_old_handlers_are_put_back_after_an_error(old_handlers: list[object]) -> None:
    with pytest.raises(ZeroDivisionError), stop_on_signals(Stop()):
        raise ZeroDivisionError
    assert handlers() == old_handlers


def test_outside_the_main_thread_no_handler_is_touched(old_handlers: list[object]) -> None:
    seen: list[list[object]] = []

    def work() -> None:
        with stop_on_signals(Stop()):
            seen.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    assert seen == [old_handlers]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_wait_of_the_main_thread(number: signal.Signals) -> None:
    stop = Stop()
    old = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
    began = time.monotonic()
    try:
        with stop_on_signals(stop):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert stop.wait(DEADLINE_SECONDS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert time.monotonic() - began < DEADLINE_SECONDS


def test_setting_the_flag_ends_the_wait_of_another_thread() -> None:
    stop = Stop()
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(stop.wait(3600)), daemon=True)
    waiter.start()
    stop.set()
    waiter.join(DEADLINE_SECONDS)
    assert answers == [True]


def test_a_flag_that_is_not_set_waits_in_vain_and_no_longer() -> None:
    stop = Stop()
    assert stop.wait(0) is False
    assert stop.wait(-1) is False
    assert stop.is_set() is False


def test_a_flag_stays_set_however_often_it_is_set() -> None:
    stop = Stop()
    for _ in range(100_000):  # more than a pipe holds
        stop.set()
    assert stop.is_set()
    assert stop.wait(DEADLINE_SECONDS)


def test_a_flag_closes_its_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = os.pipe()
    monkeypatch.setattr(os, "pipe", lambda: ends)
    stop = Stop()
    del stop
    for end in ends:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)
