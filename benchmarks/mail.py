"""Mail: writing a message, and sending it from the ledger to a mail server.

Postfix's own `smtp-source` and `smtp-sink` are the measure of the second; without them its rows
are left out, and say so.
"""

import email
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, date, datetime
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import commands, filling
from benchmarks.harness import Options, Row, Server, paired, progress
from hyperdrip.campaign_files import read_campaign
from hyperdrip.models import Campaign, Claim
from hyperdrip.senders.kit import make_kit
from hyperdrip.settings import Settings

CAMPAIGN = Path(__file__).parents[1] / "examples" / "campaigns" / "trial-onboarding"
MAIL_SETTINGS = {
    "MAIL_FROM": "Tallybook <hello@tallybook.example>",
    "POSTAL_ADDRESS": "Tallybook, 1 Road, Town",
    "PUBLIC_URL": "https://tallybook.example",
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",
}
SESSIONS = 20  # of each worker; smtp-source gets as many as all workers together
ROUNDS = 10


def run(server: Server, options: Options) -> Iterator[Row]:
    """Composing, then end to end with one worker and with two."""
    yield from _composing(options)
    programs = [shutil.which(name, path=_PATH) for name in ("smtp-source", "smtp-sink")]
    if None in programs:
        words = "smtp-sink and smtp-source are missing (Debian: apt install postfix)"
        progress(f"  SKIPPED, mail end to end: {words}")
        yield Row(
            name="mail end to end", value=float("nan"), low=None, high=None, gate=None, goal=None,
            is_higher_better=True, note=f"SKIPPED: {words}",
        )  # fmt: skip
        return
    source, sink = (str(program) for program in programs)
    with _mail_server(sink) as port:
        yield _end_to_end(server, options, source, port, workers=1, gate=0.2, goal=0.4)
        yield _end_to_end(server, options, source, port, workers=2, gate=0.35, goal=0.6)


_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


# --- composing ---


def _composing(options: Options) -> Iterator[Row]:
    """All that the worker does for a message's bytes, against writing out a finished EmailMessage.

    Theirs neither renders a template nor builds a message; with building it is in the note.
    """
    campaign = read_campaign(CAMPAIGN)
    compose = make_kit(_settings(), lambda _name, _version: campaign, instance="1/2").compose
    for what, name in (("an ASCII name", "Ada Marlowe"), ("another name", "Zoë Ångström")):
        claim = _claim(campaign, name)
        parsed = email.message_from_bytes(compose(claim).data, policy=SMTP)
        headers = [(key, str(value)) for key, value in parsed.items()][:-2]
        text, html = (part.get_content() for part in parsed.iter_parts())

        def build(
            headers: Sequence[tuple[str, str]] = headers, text: str = text, html: str = html
        ) -> EmailMessage:
            message = EmailMessage(policy=SMTP)
            for key, value in headers:
                message[key] = value
            message.set_content(text)
            message.add_alternative(html, subtype="html")
            return message

        built = build()
        ours = _timer(partial(compose, claim))
        found = paired(_timer(built.as_bytes), ours, pairs=options.pairs, settle=_nothing)
        whole = paired(
            _timer(partial(_build_and_write, build)),
            ours,
            pairs=options.pairs,
            settle=_nothing,
        )
        yield Row(
            name=f"rendering and composing, {what}, against EmailMessage.as_bytes()",
            value=found.ratio, low=found.low, high=found.high, gate=3.0, goal=8.0,
            is_higher_better=True, unit="x",
            note=f"{median(found.b):.0f} us, as_bytes alone {median(found.a):.0f} us;"
            f" {whole.ratio:.1f} times as fast as building and as_bytes ({median(whole.a):.0f} us)",
        )  # fmt: skip


def _build_and_write(build: Callable[[], EmailMessage]) -> bytes:
    return build().as_bytes()


def _timer(function: Callable[[], object]) -> Callable[[], float]:
    """The processor time of one call in microseconds, the best of ROUNDS."""
    function()

    def once() -> float:
        times = 1
        while (spent := _spent(function, times)) < 0.02:
            times *= 2
        return min(spent, *(_spent(function, times) for _ in range(ROUNDS))) / times * 1e6

    return once


def _spent(function: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        function()
    return time.process_time() - start


def _settings() -> Settings:
    return commands.settings_of("postgresql:///none", **MAIL_SETTINGS)


def _claim(campaign: Campaign, name: str) -> Claim:
    return Claim(
        lead_id=7, run=1, number=1, envelope_id=1, token=1, attempts=1, day=date(2024, 1, 15),
        email="ada@example.com", name=name, lead_fields='{"company": "Northwind Robotics"}',
        campaign=campaign.name, campaign_version=1, message_count=0, max_messages=5,
        first_claimed_at=datetime(2024, 1, 15, 9, tzinfo=UTC),
    )  # fmt: skip


# --- end to end ---


@contextmanager
def _mail_server(sink: str) -> Iterator[int]:
    """`smtp-sink` on a free port of this host: takes every message, and keeps none."""
    with closing(socket.create_server(("127.0.0.1", 0))) as held:
        port = int(held.getsockname()[1])
    user = ("-u", "nobody") if os.geteuid() == 0 else ()  # as root it refuses to run
    with subprocess.Popen(
        [sink, *user, f"127.0.0.1:{port}", "1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _await_port(port)
            yield port
        finally:
            process.terminate()


def _await_port(port: int) -> None:
    ends = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)
        else:
            return


def _end_to_end(
    server: Server,
    options: Options,
    source: str,
    port: int,
    *,
    workers: int,
    gate: float,
    goal: float,
) -> Row:
    """A drain of what is due, from the first claim to the last answer as the ledger has them."""
    count = (24_000 if options.is_full else 8_000) * workers
    sessions = SESSIONS * workers
    campaign = read_campaign(CAMPAIGN)
    compose = make_kit(_settings(), lambda _name, _version: campaign, instance="1/2").compose
    length = len(compose(_claim(campaign, "Ada Marlowe")).data)

    with server.database("mail") as url:
        commands.hyperdrip(url, "campaigns", "apply", CAMPAIGN, "--yes")

        def ours() -> float:
            filling.fill(url, leads=count, messages=1, per_day=100_000_000, campaign=campaign.name)
            server.settle(url)
            return _drain(server, url, port, workers=workers, count=count)

        def theirs() -> float:
            started = time.perf_counter()
            subprocess.run(
                [
                    source, "-d", "-s", str(sessions), "-m", str(count), "-l", str(length),
                    "-f", "hello@tallybook.example", "-t", "lead@example.com",
                    f"127.0.0.1:{port}",
                ],
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )  # fmt: skip
            return count / (time.perf_counter() - started)

        found = paired(ours, theirs, pairs=options.pairs, settle=_nothing)
    who = "one worker" if workers == 1 else f"{workers} workers"
    return Row(
        name=f"mail end to end, {who}, against smtp-source",
        value=found.ratio, low=found.low, high=found.high, gate=gate, goal=goal,
        is_higher_better=True, unit="x",
        note=f"{count:,} messages of {length / 1000:.1f} kB, CONCURRENCY={SESSIONS}:"
        f" {median(found.a):,.0f}/s; smtp-source -s {sessions}: {median(found.b):,.0f}/s",
    )  # fmt: skip


def _drain(server: Server, url: str, port: int, *, workers: int, count: int) -> float:
    settings = {**MAIL_SETTINGS, "SMTP_URL": f"smtp://127.0.0.1:{port}?starttls=never"}
    worker = (
        "worker", "--drain", "--sender", "smtp", "--message-delay", "0",
        "--concurrency", str(SESSIONS),
    )  # fmt: skip
    with closing(server.connect(url)) as conn:
        started_at = conn.execute("select clock_timestamp()").fetchone()
        assert started_at is not None
        with ExitStack() as stack:
            running = [
                stack.enter_context(commands.started(url, *worker, **settings))
                for _ in range(workers)
            ]
            for one in running:
                one.wait(seconds=600)
        row = conn.execute(
            "select count(*), extract(epoch from max(sent_at) - min(claimed_at))::float8"
            " from hyperdrip.message where state = 'sent' and claimed_at >= %s",
            started_at,
        ).fetchone()
    assert row is not None
    assert row[0] == count, f"{row[0]} of {count} were sent"
    return count / float(row[1])


def _nothing() -> None:
    """For `settle`: each run settles by itself."""
