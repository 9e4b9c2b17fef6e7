"""worker, rollover, pause, resume, and audit."""

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hyperdrip.cli.completion import SenderName
from hyperdrip.cli.invocation import Invocation, Json, command
from hyperdrip.cli.output import (
    audit_json,
    coloured,
    print_json,
    print_line,
    print_table,
    short_instant,
    worker_json,
)
from hyperdrip.errors import AuditFailed, HyperdripError
from hyperdrip.models import WorkerSummary

if TYPE_CHECKING:
    from hyperdrip.client import Hyperdrip
    from hyperdrip.worker import Worker

log = logging.getLogger("hyperdrip.worker")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    command(app, "worker", example="hyperdrip worker --drain --message-delay 0")(run_worker)
    command(app, "rollover", example="hyperdrip rollover")(roll_over)
    command(app, "pause", example="hyperdrip pause")(pause)
    command(app, "resume", example="hyperdrip resume")(resume)
    command(app, "audit", example="hyperdrip audit --json")(audit)


def run_worker(
    run: Invocation,
    drain: Annotated[
        bool, typer.Option("--drain", help="Send what is due today, then end (for cron).")
    ] = False,
    sender: SenderName = None,
    poll_interval: Annotated[
        str | None, typer.Option("--poll-interval", help="How often to look.", metavar="MS")
    ] = None,
    message_delay: Annotated[
        str | None, typer.Option("--message-delay", help="Pause between messages.", metavar="MS")
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option("--concurrency", help="Messages in flight at a time.", metavar="N"),
    ] = None,
    json: Json = False,
) -> None:
    """Send what is due, each message once, as long as today's quota has room.

    The first SIGTERM or Ctrl-C finishes what is in flight, the second stops at once.
    """
    from hyperdrip.signals import Stop, stop_on_signals

    options = {
        "SENDER": sender,
        "WORKER_POLL_INTERVAL": poll_interval,
        "WORKER_MESSAGE_DELAY": message_delay,
        "CONCURRENCY": concurrency,
    }
    overrides = {name: value for name, value in options.items() if value is not None}
    stop = Stop()
    with stop_on_signals(stop), run.open(overrides) as drip:

        def on_start(worker: "Worker") -> None:
            log.info("Drip worker started - polling every %dms", drip.settings.worker_poll_interval)
            if drain:
                _announce(drip, worker)

        summary = drip.run_worker(is_drain=drain, stop=stop, on_start=on_start)
        # In here: a signal that comes late must not end what is done with an error.
        if json:
            print_json(worker_json(summary))
        else:
            print_line(_describe(summary))
        if drain and summary.refusal is not None and not stop.is_set():
            raise HyperdripError(
                f"the sender {drip.settings.sender} takes nothing: {summary.refusal};"
                f" gave up with {summary.waiting} waiting"
            )


def roll_over(run: Invocation, json: Json = False) -> None:
    """Plan again whatever days before today still hold. A worker does this by itself."""
    with run.open() as drip:
        result = drip.roll_over()
    if json:
        print_json(
            {
                "day": result.today,
                "rolledOver": result.late,
                "moved": result.moved,
                "unknown": result.unknown,
                "closed": list(result.closed),
                "stillOpen": list(result.still_open),
                "clockBack": result.is_clock_back,
            }
        )
        return
    if result.is_clock_back:
        print_line(f"The clock says {result.today}, before a day already opened: nothing was done")
        return
    print_line(
        f"{result.today}: {result.late} late messages rolled over, {result.moved} moved in all,"
        f" {result.unknown} unknown, {len(result.closed)} days closed,"
        f" {len(result.still_open)} still open"
    )


def pause(run: Invocation, json: Json = False) -> None:
    """Pause everything: nothing is handed over until `hyperdrip resume`."""
    with run.open() as drip:
        has_changed = drip.pause()
    _print_paused(is_paused=True, has_changed=has_changed, is_json=json)


def resume(run: Invocation, json: Json = False) -> None:
    """Resume everything after `hyperdrip pause`."""
    with run.open() as drip:
        has_changed = drip.resume()
    _print_paused(is_paused=False, has_changed=has_changed, is_json=json)


def audit(run: Invocation, json: Json = False) -> None:
    """Prove the invariants from the tables: ledger, queues, quota and leads agree."""
    with run.open() as drip:
        checks = drip.audit()
    if json:
        print_json(audit_json(checks))
    else:
        print_table(
            ("", "check", "detail"),
            [
                (
                    coloured("ok", "green") if check.ok else coloured("BROKEN", "bold red"),
                    check.name,
                    check.detail,
                )
                for check in checks
            ],
            empty="No checks",
        )
    broken = [check.name for check in checks if not check.ok]
    if broken:
        raise AuditFailed(f"the tables contradict each other: {'; '.join(broken)}")


def _announce(drip: "Hyperdrip", worker: "Worker") -> None:
    """Say first how many are due and how long it will take."""
    gate = worker.read_gate()
    due, delay_ms = min(gate.waiting, max(gate.room, 0)), drip.settings.worker_message_delay
    if gate.is_paused:
        log.info("Paused, %d waiting; to go on: hyperdrip resume", gate.waiting)
    elif gate.waiting and not due:
        log.info("%d waiting, and today's quota is used up", gate.waiting)
    elif not due:
        coming = drip.next_planned_day()
        log.info("Nothing due%s", f"; next: {coming[1]} on {coming[0]}" if coming else "")
    elif not delay_ms:
        log.info("%d due", due)
    else:
        log.info(
            "%d due, %g s apart: about %s; --message-delay 0 sends at once",
            due,
            delay_ms / 1000,
            _span(due * delay_ms / 1000),
        )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _describe(summary: WorkerSummary) -> str:
    parts = [f"{summary.sent} sent"]
    for number, word in (
        (summary.failed, "failed"),
        (summary.retried, "to be tried again"),
        (summary.unknown, "unknown"),
        (summary.skipped, "skipped"),
        (summary.rolled_over, "rolled over"),
        (summary.waiting, "waiting"),
    ):
        if number:
            parts.append(f"{number} {word}")
    if summary.quota_reached:
        parts.append("today's quota is used up")
    elif summary.next_attempt_at and summary.next_attempt_at > datetime.now(UTC):
        parts.append(f"the next from {short_instant(summary.next_attempt_at)} on")
    return ", ".join(parts)


def _print_paused(*, is_paused: bool, has_changed: bool, is_json: bool) -> None:
    if is_json:
        print_json({"paused": is_paused, "changed": has_changed})
    elif is_paused:
        print_line("Paused" if has_changed else "It was paused already")
    else:
        print_line("Resumed" if has_changed else "It was not paused")
