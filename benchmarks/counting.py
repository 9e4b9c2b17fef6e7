"""What a drain costs the server: counted, so that it does not move with the noise of a machine."""

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from benchmarks.backlog import Stage, add_leads, backlog, queue_of_today
from benchmarks.draining import WAVE, Drained, drain
from benchmarks.harness import Row, Server

CLAIMS = 20
OUR_NAME = "hyperdrip"
_LINE = re.compile(
    r"^\[(?P<who>[^]]*)/(?P<session>[0-9]+)\] LOG:  (?:statement|execute [^:]*): (?P<text>.*)$"
)
_WRITES = re.compile(
    r"\b(insert into|update hyperdrip|delete from|for (no key )?update|pgmq\.(read|archive|set_vt))"
)
_TRANSACTION = ("begin", "commit", "rollback", "savepoint", "release")


def wal(stage: Stage, messages: int) -> Iterator[Row]:
    """WAL bytes of a message from its first read to its archive, full pages included."""
    used, full_pages = {}, {}
    for kind in ("floor", "ours"):
        stage.settle()
        with closing(stage.server.connect(stage.url)) as conn:
            before = conn.execute(_WAL).fetchone()
            drain(kind, stage.url, queue_of_today())
            after = conn.execute(_WAL).fetchone()
        assert before is not None
        assert after is not None
        used[kind] = float(after[0] - before[0]) / messages
        full_pages[kind] = float(after[1] - before[1]) / messages
    yield Row(
        "drain, WAL bytes of a message/floor's",
        used["ours"] / used["floor"],
        None,
        None,
        2.2,
        2.2,
        False,
        note=f"{used['ours']:,.0f} against {used['floor']:,.0f} bytes,"
        f" right after a checkpoint: {full_pages['ours']:.3f} and {full_pages['floor']:.3f}"
        " full pages of them",
    )


_WAL = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'), wal_fpi from pg_stat_wal"


def disk(stage: Stage, messages: int) -> Iterator[Row]:
    """Bytes on disk of a message, with its indexes and room for updates, and what a drain adds."""
    stage.settle()
    with closing(stage.server.connect(stage.url)) as conn:
        before = dict(conn.execute(_SIZES).fetchall())
        planned = conn.execute("select count(*) from hyperdrip.message").fetchone()
    drain("ours", stage.url, queue_of_today())
    stage.server.settle(stage.url)
    with closing(stage.server.connect(stage.url)) as conn:
        after = dict(conn.execute(_SIZES).fetchall())
    assert planned is not None
    leads, count = messages, planned[0]
    yield Row(
        "disk bytes of a planned message: ledger and envelope",
        before["message"] / count + before["queues"] / count,
        None,
        None,
        None,
        None,
        False,
        note=f"{before['message'] / count:,.0f} in the ledger, {before['queues'] / count:,.0f} in"
        f" its queue; a lead of {count // leads} messages {before['lead'] / leads:,.0f}",
    )
    grown = {name: (after[name] - before[name]) / messages for name in before}
    yield Row(
        "disk bytes that a sent message adds",
        sum(grown.values()),
        None,
        None,
        None,
        None,
        False,
        note="vacuumed after the drain; "
        + ", ".join(f"{name} {bytes_:+,.0f}" for name, bytes_ in grown.items()),
    )


_SIZES = r"""
select
    case
        when schemaname = 'hyperdrip' and relname in ('lead', 'message') then relname
        when schemaname = 'pgmq' and relname like 'q\_%' then 'queues'
        when schemaname = 'pgmq' and relname like 'a\_%' then 'archives'
        else 'others'
    end as part,
    sum(pg_total_relation_size(relid))::bigint
from pg_stat_user_tables
group by 1
"""


@dataclass
class Counted:
    """The statements of our worker between its first read and its last commit, as logged."""

    statements: list[str]
    commits: int
    writing_commits: int


def statements(stage: Stage, messages: int) -> Iterator[Row]:
    """Statements and commits of a message, as the server logs them."""
    stage.settle()
    with _logged_statements(stage.server) as lines:
        drained = drain("ours", stage.url, queue_of_today())
    counted = _count(lines)
    waves = drained.count / WAVE
    yield Row(
        f"drain, statements of a message in waves of {WAVE}",
        len(counted.statements) / messages,
        None,
        None,
        0.02,
        0.02,
        False,
        note=f"{len(counted.statements) / waves:.1f} of a wave, without BEGIN and COMMIT",
    )
    yield Row(
        f"drain, commits of a message in waves of {WAVE}",
        counted.writing_commits / messages,
        None,
        None,
        0.004,
        0.004,
        False,
        note=f"{counted.writing_commits / waves:.2f} of a wave that write, and"
        f" {(counted.commits - counted.writing_commits) / waves:.2f} that only read",
    )


@contextmanager
def _logged_statements(server: Server) -> Iterator[list[str]]:
    """Let the server log every statement; the lines are in the list that is yielded, at the end."""
    server.alter("log_line_prefix", "[%a/%p] ")
    server.alter("log_statement", "all")
    time.sleep(0.2)  # until the server has read its settings again
    lines: list[str] = []
    at = server.log.stat().st_size
    try:
        yield lines
    finally:
        server.alter("log_statement", None)
        server.alter("log_line_prefix", None)
        with server.log.open("rb") as log:
            log.seek(at)
            lines += log.read().decode(errors="replace").splitlines()


def _count(lines: list[str]) -> Counted:
    counted = Counted([], 0, 0)
    for texts in _texts(lines).values():
        reads = [i for i, text in enumerate(texts) if "pgmq.read(" in text]
        if reads:  # what a worker asks before its first read and after its last belongs to no wave
            ends = (i for i, text in enumerate(texts) if text.lower().startswith("commit"))
            _count_session(texts[reads[0] : max(ends) + 1], counted)
    return counted


def _count_session(texts: list[str], counted: Counted) -> None:
    is_open, does_write = True, False  # the first read is in a transaction already
    for text in texts:
        word = text.split(None, 1)[0].lower().rstrip(";") if text else ""
        if word not in _TRANSACTION:
            counted.statements.append(text)
        if word == "begin":
            is_open, does_write = True, False
            continue
        does_write = bool(_WRITES.search(text)) or (is_open and does_write)
        if word == "commit" or not is_open:
            counted.commits += 1
            counted.writing_commits += does_write
            is_open = does_write = False


def _texts(lines: list[str]) -> dict[str, list[str]]:
    """The statements of our worker by session, in order, each with all of its lines."""
    texts: dict[str, list[str]] = defaultdict(list)
    session = ""
    for line in lines:
        found = _LINE.match(line)
        if found:
            session = found["session"] if found["who"] == OUR_NAME else ""
            if session:
                texts[session].append(found["text"])
        elif line.startswith("\t") and session:
            texts[session][-1] += "\n" + line[1:]
        else:
            session = ""
    return texts


def buffers(server: Server, *, due: int, future_leads: int) -> Iterator[Row]:
    """Shared buffers that a wave touches, with and without messages that wait for later days."""
    with backlog(server, due, max_messages=1) as near:
        few = _touched(server, near)
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        file = server.folder / "leads.csv"
        add_leads(near, file, future_leads, first=due + 1, start=tomorrow)
        server.settle(near)
        many = _touched(server, near)
    yield Row(
        f"drain, buffers of a wave with {future_leads * 5:,} future messages/none",
        many / few,
        None,
        None,
        1.1,
        1.1,
        False,
        note=f"{many:,.0f} against {few:,.0f} of a wave of {WAVE}, {due:,} due",
    )


def _touched(server: Server, template: str) -> float:
    """Shared buffers that our worker touches in a wave, in a copy of a database."""
    with Stage(server, template) as stage:
        stage.settle()
        with closing(server.connect()) as conn:
            before = conn.execute(_BUFFERS).fetchone()
            drained: Drained = drain("ours", stage.url, queue_of_today(), messages=CLAIMS * WAVE)
            after = conn.execute(_BUFFERS).fetchone()
    assert before is not None
    assert after is not None
    return float(after[0] - before[0]) / (drained.count / WAVE)


# What a session touched is there once it has ended.
_BUFFERS = (
    "select sum(hits + reads) from pg_stat_io"
    " where backend_type = 'client backend' and object = 'relation' and context = 'normal'"
)
