"""What a mail server does, and what becomes of the message: the table of docs/smtp.md."""

import re
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace

import pytest

from hyperdrip.errors import NotFoundError, SettingsError
from hyperdrip.models import Claim, Mail
from hyperdrip.senders import Failed, Outcome, Refused, Retry, Sent, Unknown
from hyperdrip.senders.smtp import SmtpSender
from hyperdrip.senders.smtp_wire import Steps, Wire
from hyperdrip.smtp_url import Security, SmtpServer
from tests.smtp.conftest import QUICK, Certificates, address
from tests.smtp.mails import make_claim, make_claims, send, send_one, write_mail
from tests.smtp.scripted import ALL, PASSWORD, USER, Act, Event, Rule, ScriptedServer

NewSender = Callable[..., SmtpSender]
NO_PIPELINING = tuple(word for word in ALL if word != "PIPELINING")


def at(verb: str, action: bytes | Act) -> Rule:
    """Do this at each of these commands."""
    return lambda event: action if event.verb == verb else None


def first(verb: str, action: bytes | Act) -> Rule:
    """Do this at the first of these commands only."""
    return lambda event: action if (event.verb, event.times) == (verb, 0) else None


# What the server does; the outcome, what its reason has to say, and how often the message arrived.
TABLE: list[tuple[str, bytes | Act, type[Outcome], str, int]] = [
    ("GREETING", b"421 4.3.2 busy\r\n", Refused, "421 4.3.2 busy", 0),
    ("GREETING", b"450 later\r\n", Refused, "450 later", 0),
    ("GREETING", b"554 5.7.1 not you\r\n", Refused, "554 5.7.1 not you", 0),
    ("GREETING", b"HTTP/1.1 400 Bad Request\r\n", Refused, "HTTP", 0),
    ("GREETING", Act.HANG_UP, Refused, "closed the connection", 0),
    ("GREETING", Act.SILENCE, Refused, "did not answer within", 0),
    ("EHLO", Act.HANG_UP, Refused, "EHLO: it closed", 0),
    ("EHLO", b"421 4.3.2 busy\r\n", Refused, "421 4.3.2 busy", 0),
    ("MAIL", b"421 4.3.2 closing\r\n", Refused, "421 4.3.2 closing", 0),
    ("MAIL", b"451 4.3.0 later\r\n", Refused, "451 4.3.0 later", 0),
    ("MAIL", b"530 5.7.0 authenticate\r\n", Refused, "530 5.7.0", 0),
    ("MAIL", b"550 5.1.8 bad sender\r\n", Refused, "550 5.1.8", 0),
    ("MAIL", b"552 too big\r\n", Failed, "552 too big", 0),
    ("MAIL", b"552 5.3.4 too big\r\n", Failed, "552 5.3.4 too big", 0),
    ("MAIL", b"552 5.2.2 sender over quota\r\n", Refused, "552 5.2.2 sender over quota", 0),
    ("MAIL", Act.HANG_UP, Refused, "closed the connection", 0),
    ("MAIL", Act.SILENCE, Refused, "", 0),
    ("MAIL", b"\x00\xffjunk\r\n", Refused, "it answered", 0),
    ("RCPT", b"421 4.7.0 closing\r\n", Retry, "421 4.7.0 closing", 0),
    ("RCPT", b"450 4.2.1 greylisted\r\n", Retry, "450 4.2.1 greylisted", 0),
    ("RCPT", b"452-4.2.2 full\r\n452 4.2.2 really\r\n", Retry, "452 4.2.2 full 4.2.2 really", 0),
    ("RCPT", b"550 no such user\r\n", Failed, "550 no such user", 0),
    ("RCPT", b"550 5.2.1 disabled\r\n", Failed, "550 5.2.1", 0),
    ("RCPT", b"552 5.2.2 full\r\n", Failed, "552 5.2.2", 0),
    ("RCPT", b"554 5.7.1 relay access denied\r\n", Retry, "554 5.7.1", 0),
    ("RCPT", b"503 5.5.1 MAIL first\r\n", Retry, "503 5.5.1", 0),
    ("RCPT", b"354 what\r\n", Retry, "unexpected: 354", 0),
    ("RCPT", Act.HANG_UP, Retry, "RCPT TO: it closed", 0),
    ("DATA", b"421 4.3.2 closing\r\n", Retry, "421 4.3.2", 0),
    ("DATA", b"451 4.3.0 later\r\n", Retry, "451 4.3.0", 0),
    ("DATA", b"554 5.6.0 no\r\n", Failed, "554 5.6.0", 0),
    ("DATA", b"250 ok\r\n", Retry, "unexpected: 250", 0),
    ("DATA", Act.HANG_UP, Retry, "DATA: it closed", 0),
    ("DOT", b"421 4.3.2 closing\r\n", Retry, "421 4.3.2", 0),
    ("DOT", b"451 4.3.0 later\r\n", Retry, "451 4.3.0", 0),
    ("DOT", b"550 5.6.0 spam\r\n", Failed, "550 5.6.0 spam", 0),
    ("DOT", b"554-5.6.0 one\r\n554 5.6.0 two\r\n", Failed, "554 5.6.0 one 5.6.0 two", 0),
    ("DOT", Act.HANG_UP, Unknown, "handed over, and no answer came", 0),
    ("DOT", Act.TAKE_AND_HANG_UP, Unknown, "handed over, and no answer came", 1),
    ("DOT", Act.SILENCE, Unknown, "did not answer within 1 s", 0),
    ("DOT", b"junk\r\n", Unknown, "it answered 'junk'", 0),
    ("DOT", b"354 more\r\n", Unknown, "says nothing", 0),
    ("DOT", Act.TAKE_ANSWER_AND_HANG_UP, Sent, "", 1),
    ("DOT", b"252 fine\r\n", Sent, "", 1),
    ("QUIT", b"500 what\r\n", Sent, "", 1),
    ("QUIT", Act.HANG_UP, Sent, "", 1),
    ("QUIT", Act.SILENCE, Sent, "", 1),
]


@pytest.mark.parametrize("extensions", [ALL, NO_PIPELINING], ids=["pipelined", "one by one"])
@pytest.mark.parametrize(
    ("verb", "action", "outcome", "says", "arrived"),
    TABLE,
    ids=[f"{verb} {getattr(action, 'name', action)!s}" for verb, action, *_ in TABLE],
)
def test_each_phase_and_reply_has_its_outcome(
    new_sender: NewSender,
    *,
    extensions: tuple[str, ...],
    verb: str,
    action: bytes | Act,
    outcome: type[Outcome],
    says: str,
    arrived: int,
) -> None:
    with ScriptedServer(at(verb, action), extensions) as server:
        sender = new_sender(server)
        found = send_one(sender)
        sender.close()
        assert type(found) is outcome
        assert says in getattr(found, "reason", "")
        assert getattr(found, "reason", "x").isprintable()
        assert len(server.accepted) == arrived
        # Nothing but what was lost before its final dot is tried a second time.
        is_lost = outcome in (Retry, Refused) and (
            isinstance(action, Act) or "421" in says or verb in ("MAIL", "RCPT", "DATA")
        )
        assert server.verbs().count("MAIL") <= 1 + is_lost


@pytest.mark.parametrize(
    ("reply", "is_dead"),
    [
        ("550 5.1.1 unknown", True),
        ("550-5.1.1 unknown\r\n550 5.1.1 really", True),
        ("550 5.1.2 no such domain", True),
        ("553 5.1.3 syntax", True),
        ("551 5.1.6 moved", True),
        ("556 5.1.10 null MX", True),
        ("550 5.1.1 <relay@example.com>: User unknown", True),
        ("550 5.1.1 User unknown in relay recipient table", True),
        ("550 unknown user", False),
        ("550 4.1.1 confused", False),
        ("550 5.1.0 other", False),
        ("550 5.2.1 disabled, or too much mail", False),
        ("552 5.2.2 full", False),
        ("550 5.4.1 access denied", False),
    ],
)
def test_an_address_is_dead_only_when_its_code_says_so(
    new_sender: NewSender, reply: str, *, is_dead: bool
) -> None:
    with ScriptedServer(at("RCPT", f"{reply}\r\n".encode())) as server:
        outcome = send_one(new_sender(server))
        assert isinstance(outcome, Failed)
        assert outcome.is_address_dead is is_dead


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("action", [b"421 4.3.2 closing\r\n", Act.HANG_UP, b"junk\r\n"])
@pytest.mark.parametrize("extensions", [ALL, NO_PIPELINING])
def test_what_is_lost_before_the_final_dot_goes_on_another_connection_unasked(
    new_sender: NewSender, verb: str, action: bytes | Act, extensions: tuple[str, ...]
) -> None:
    with ScriptedServer(first(verb, action), extensions) as server:
        asked: list[int] = []
        sender = new_sender(server)
        wave = sender.send_wave([make_claim(1)], lambda claim: not asked.append(claim.lead_id))
        assert [answer[1] for answer in wave if answer] == [Sent("Q1")]
        assert asked == [1]
        assert server.accepted == ["lead_1-1-1"]
        assert server.connections == 2


def test_a_second_try_on_a_server_that_is_gone_is_refused_and_not_an_attempt(
    new_sender: NewSender,
) -> None:
    def rule(event: Event) -> bytes | Act | None:
        if event.connection > 0:
            return b"421 4.3.2 closed for today\r\n"
        return Act.HANG_UP if event.verb == "MAIL" else None

    with ScriptedServer(rule) as server:
        outcome = send_one(new_sender(server))
        assert isinstance(outcome, Refused)
        assert "421 4.3.2 closed for today" in outcome.reason


def test_with_whom_a_server_was_lost_at_mail_steps_aside_for_the_next_try(
    new_sender: NewSender,
) -> None:
    with ScriptedServer(at("MAIL", Act.HANG_UP)) as server:
        outcome = send_one(new_sender(server))
        assert isinstance(outcome, Refused)
        assert outcome.seconds == 300


def test_a_second_try_has_to_begin_soon(new_sender: NewSender) -> None:
    with ScriptedServer(at("MAIL", Act.SILENCE)) as server:
        sender = new_sender(server, timeouts=replace(QUICK, second_try=0.1))
        assert isinstance(send_one(sender), Refused)
        assert server.connections == 1


def test_a_second_try_is_not_made_when_its_connection_took_too_long(
    new_sender: NewSender,
) -> None:
    def rule(event: Event) -> Act | None:
        if event.verb == "GREETING" and event.connection:
            threading.Event().wait(0.5)
        return Act.HANG_UP if event.verb == "RCPT" else None

    with ScriptedServer(rule) as server:
        sender = new_sender(server, timeouts=replace(QUICK, second_try=0.2))
        assert send_one(sender) == Retry("RCPT TO: it closed the connection")
        assert server.connections == 2
        assert server.verbs().count("MAIL") == 1


# The server's answer to one of the commands, what it does at the next, and what it said.
CLEAR = [
    ("MAIL", b"550 5.7.1 no\r\n", "RCPT", Refused("550 5.7.1 no (to MAIL FROM)")),
    ("RCPT", b"550 5.1.1 no\r\n", "DATA", Failed("550 5.1.1 no (to RCPT TO)", True)),
    ("RCPT", b"450 4.2.2 no\r\n", "DATA", Retry("450 4.2.2 no (to RCPT TO)")),
]


@pytest.mark.parametrize("action", [Act.HANG_UP, Act.SILENCE, b"junk\r\n"])
@pytest.mark.parametrize(("verb", "reply", "behind", "outcome"), CLEAR)
def test_a_clear_answer_counts_also_when_the_line_drops_behind_it(
    new_sender: NewSender,
    *,
    verb: str,
    reply: bytes,
    behind: str,
    outcome: Outcome,
    action: bytes | Act,
) -> None:
    def rule(event: Event) -> bytes | Act | None:
        if event.times == 0 and event.verb in (verb, behind):
            return reply if event.verb == verb else action
        return None

    with ScriptedServer(rule) as server:
        sender = new_sender(server)
        assert send_one(sender, 1) == outcome
        assert server.connections == 1
        assert send_one(sender, 2) == Sent("Q1")
        assert server.connections == 2


def test_a_message_of_which_most_did_not_leave_was_not_taken(new_sender: NewSender) -> None:
    with ScriptedServer(at("DATA", Act.ASK_AND_HANG_UP), is_narrow=True) as server:
        sender = new_sender(server, compose=lambda claim: write_mail(claim, b"x" * 250_000))
        outcome = send_one(sender)
        assert isinstance(outcome, Retry)
        assert outcome.reason.startswith("the message: ")
        assert server.connections == 2


def test_an_idle_connection_that_died_costs_nothing(new_sender: NewSender) -> None:
    with ScriptedServer() as server:
        for timeouts in (QUICK, replace(QUICK, check=0.0)):  # found by MAIL, and by asking first
            sender = new_sender(server, timeouts=timeouts)
            assert isinstance(send_one(sender, 1), Sent)
            server.cut()
            assert isinstance(send_one(sender, 2), Sent)
        assert server.accepted == ["lead_1-1-1", "lead_2-1-1"] * 2
        assert server.connections == 4


def test_connections_are_kept_over_waves_and_renewed_after_their_share(
    new_sender: NewSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdrip.senders.smtp_session.MOST_MESSAGES", 5)
    with ScriptedServer() as server:
        sender = new_sender(server)
        for lead_id in range(1, 13):
            assert isinstance(send_one(sender, lead_id), Sent)
        assert server.connections == 3
        assert server.verbs(0).count("QUIT") == server.verbs(1).count("QUIT") == 1


def test_an_idle_connection_is_closed_politely_by_itself(new_sender: NewSender) -> None:
    with ScriptedServer() as server:
        sender = new_sender(server, timeouts=replace(QUICK, idle=0.1))
        assert isinstance(send_one(sender), Sent)
        ends = time.monotonic() + 5
        while "QUIT" not in server.verbs():
            assert time.monotonic() < ends
            threading.Event().wait(0.01)


def test_a_wave_uses_as_many_connections_as_it_has_messages_and_no_more_than_allowed(
    new_sender: NewSender,
) -> None:
    barrier = threading.Barrier(4)

    def rule(event: Event) -> None:
        if event.verb == "DOT":
            barrier.wait(5)  # four at a time, or this breaks

    with ScriptedServer(rule) as server:
        outcomes = send(new_sender(server, concurrency=4), make_claims(40))
        assert all(isinstance(outcome, Sent) for outcome in outcomes)
        assert server.connections == 4
        assert sorted(server.accepted) == sorted(c.message_key for c in make_claims(40))


@pytest.mark.parametrize(
    ("answered", "seconds", "size"),
    [
        (10, 10.0, 10),  # a connection may have one at a time, however long it takes
        (10, 0.3, 10),
        (10, 0.25, 20),
        (20, 0.34, 20),
        (50, 0.5, 50),
        (50, 0.01, 1000),
        (3, 60.0, 10),
        (0, 0.0, 10),
    ],
)
def test_a_wave_is_as_large_as_what_left_in_half_a_second_within_bounds(
    new_sender: NewSender, closed_port: int, answered: int, seconds: float, size: int
) -> None:
    sender = new_sender(SmtpServer("127.0.0.1", closed_port, Security.NONE), concurrency=10)
    assert sender.wave_size == 10
    assert sender._size_of_next(answered, seconds) == size


def test_what_was_not_handed_over_says_nothing_of_the_size_of_a_wave(
    new_sender: NewSender, closed_port: int
) -> None:
    sender = new_sender(SmtpServer("127.0.0.1", closed_port, Security.NONE), concurrency=10)
    sender.wave_size = 30
    send(sender, make_claims(30))
    assert sender.wave_size == 30


@pytest.mark.parametrize(("extensions", "writes"), [(ALL, 2), (NO_PIPELINING, 4)])
def test_messages_are_written_by_the_iterating_thread_in_as_few_writes_as_can_be(
    new_sender: NewSender,
    monkeypatch: pytest.MonkeyPatch,
    extensions: tuple[str, ...],
    writes: int,
) -> None:
    """Threads that take turns for each message are what made sending slow."""
    written: list[bytes] = []
    write = Wire.write

    def noted(self: Wire, octets: bytes, *, seconds: float) -> Steps[None]:
        if threading.get_ident() == here:
            written.append(octets)
        return write(self, octets, seconds=seconds)

    here = threading.get_ident()
    monkeypatch.setattr(Wire, "write", noted)
    with ScriptedServer(extensions=extensions) as server:
        outcomes = send(new_sender(server, concurrency=4), make_claims(40))
        assert [type(outcome) for outcome in outcomes] == [Sent] * 40
        assert len(written) == 40 * writes


def test_where_fewer_connections_are_allowed_messages_wait_for_those_that_stand(
    new_sender: NewSender,
) -> None:
    def rule(event: Event) -> bytes | None:
        is_late = event.verb == "GREETING" and event.times >= 2
        return b"421 4.7.0 too many connections\r\n" if is_late else None

    with ScriptedServer(rule) as server:
        outcomes = send(new_sender(server, concurrency=6), make_claims(30))
        assert [type(outcome) for outcome in outcomes] == [Sent] * 30
        assert server.connections <= 6


def test_when_leave_is_refused_that_message_and_all_behind_it_stay(new_sender: NewSender) -> None:
    with ScriptedServer() as server:
        sender = new_sender(server, concurrency=1)
        wave = sender.send_wave(make_claims(5), lambda claim: claim.lead_id < 3)
        assert [answer[0].lead_id for answer in wave if answer] == [1, 2]
        assert server.accepted == ["lead_1-1-1", "lead_2-1-1"]
        # The connection is of use to the next wave.
        assert isinstance(send_one(sender, 3), Sent)
        assert server.connections == 1


def test_leave_is_asked_in_the_iterating_thread_and_only_with_a_connection(
    new_sender: NewSender, closed_port: int
) -> None:
    threads: set[int] = set()
    with ScriptedServer() as server:
        sender = new_sender(server, concurrency=3)
        list(sender.send_wave(make_claims(9), lambda _: not threads.add(threading.get_ident())))
        assert threads == {threading.get_ident()}
    nobody = new_sender(SmtpServer("127.0.0.1", closed_port, Security.NONE), concurrency=3)
    asked: list[object] = []
    answers = list(nobody.send_wave(make_claims(9), lambda claim: not asked.append(claim)))
    assert {type(answer[1]) for answer in answers if answer} == {Refused}
    assert len([answer for answer in answers if answer]) == 9
    assert asked == []


def test_while_an_answer_is_waited_for_there_is_a_sign_of_life_every_second(
    new_sender: NewSender,
) -> None:
    go_on = threading.Event()

    def rule(event: Event) -> None:
        if event.verb == "DOT":
            go_on.wait(10)

    with ScriptedServer(rule) as server:
        sender = new_sender(server, timeouts=replace(QUICK, dot=10))
        found = []
        for answer in sender.send_wave([make_claim(1)], lambda _: True):
            found.append(answer)
            go_on.set()
        assert found[0] is None
        assert isinstance(found[-1], tuple)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_abandoned_wave_leaves_the_connections_usable(
    new_sender: NewSender, concurrency: int
) -> None:
    with ScriptedServer() as server:
        sender = new_sender(server, concurrency=concurrency)
        wave = sender.send_wave(make_claims(6), lambda _: True)
        next(wave)
        wave.close()
        assert [type(outcome) for outcome in send(sender, make_claims(6))] == [Sent] * 6
        # But for those that were in the middle of a message: all others than the one that answered.
        assert server.connections <= 2 * concurrency - 1


def test_a_message_is_not_handed_over_behind_one_of_an_abandoned_wave_that_hangs(
    new_sender: NewSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdrip.senders.smtp.TICK_SECONDS", 0.05)
    go_on = threading.Event()

    def rule(event: Event) -> None:
        if event.verb == "DOT" and event.times == 1:
            go_on.wait(10)

    with ScriptedServer(rule) as server:
        sender = new_sender(server, timeouts=replace(QUICK, dot=10))
        assert isinstance(send_one(sender, 1), Sent)
        abandoned = sender.send_wave([make_claim(2)], lambda _: True)
        assert next(abandoned) is None
        abandoned.close()
        asked: list[bool] = []
        wave = sender.send_wave([make_claim(3)], lambda _: not asked.append(go_on.is_set()))
        assert next(wave) is None
        go_on.set()
        assert [type(answer[1]) for answer in wave if answer] == [Sent]
        assert asked == [True]


def test_what_is_in_flight_gets_its_answer_also_when_the_next_cannot_be_written(
    new_sender: NewSender,
) -> None:
    go_on = threading.Event()

    def compose(claim: Claim) -> Mail:
        if claim.lead_id == 2:
            go_on.set()
            raise NotFoundError("there is no version 2")
        return write_mail(claim)

    def rule(event: Event) -> None:
        if event.verb == "DOT":
            go_on.wait(10)

    with ScriptedServer(rule) as server:
        sender = new_sender(server, concurrency=2, compose=compose)
        outcomes = send(sender, make_claims(3))
        reason = "its campaign cannot be read: there is no version 2"
        assert outcomes == [Sent("Q1"), Refused(reason), Refused(reason)]


# What goes over the line


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_refused_recipient_whose_message_is_wanted_all_the_same_gets_an_empty_one(
    new_sender: NewSender, *, is_cut: bool
) -> None:
    """RFC 2920 3.1: a server may take DATA although no recipient was good."""

    def rule(event: Event) -> bytes | Act | None:
        if event.verb == "RCPT" and "l1@" in event.argument:
            return b"550 5.1.1 unknown\r\n"
        if event.verb == "DOT" and not event.argument and is_cut:
            return Act.HANG_UP
        return b"354 go on\r\n" if event.verb == "DATA" else None

    with ScriptedServer(rule) as server:
        sender = new_sender(server)
        assert isinstance(send_one(sender, 1), Failed)
        assert isinstance(send_one(sender, 2), Sent)
        assert server.accepted == ["lead_2-1-1"]
        assert server.connections == 1 + is_cut


@pytest.mark.parametrize("is_pipelined", [True, False])
def test_answers_may_come_octet_by_octet(new_sender: NewSender, *, is_pipelined: bool) -> None:
    extensions = ALL if is_pipelined else NO_PIPELINING
    with ScriptedServer(extensions=extensions, is_split=True) as server:
        assert send_one(new_sender(server)) == Sent("Q1")


def test_a_server_without_ehlo_is_greeted_with_helo(new_sender: NewSender) -> None:
    with ScriptedServer(at("EHLO", b"502 5.5.1 not here\r\n")) as server:
        assert send_one(new_sender(server)) == Sent("Q1")
        assert server.verbs()[:4] == ["GREETING", "EHLO", "HELO", "MAIL"]


@pytest.mark.parametrize(
    "body",
    [
        b".\r\n",
        b".\r\n.\r\n..\r\n",
        b"a\r\n.b\r\n",
        b"no end",
        b"\r\n.\r\nQUIT\r\n",
        b"x" * 3_000_000 + b"\r\n.\r\n",
        b"",
    ],
    ids=range(7),
)
def test_a_message_arrives_as_it_is_with_dots_and_line_ends(
    new_sender: NewSender, body: bytes
) -> None:
    with ScriptedServer(extensions=("PIPELINING",)) as server:
        sender = new_sender(server, compose=lambda claim: write_mail(claim, body))
        assert isinstance(send_one(sender), Sent)
        expected = write_mail(make_claim(1), body).data
        arrived = server.bodies[0]
        assert arrived == (expected if expected.endswith(b"\r\n") else expected + b"\r\n")


@pytest.mark.parametrize(
    ("extensions", "email", "body", "outcome", "parameters"),
    [
        (ALL, "a@example.com", b"x", Sent, r" SIZE=\d+"),
        ((), "a@example.com", b"x", Sent, ""),
        (ALL, "a@example.com", "é".encode(), Sent, r" SIZE=\d+ BODY=8BITMIME"),
        ((), "a@example.com", "é".encode(), Failed, None),
        (ALL, "jürgen@example.com", b"x", Sent, r" SIZE=\d+ BODY=8BITMIME SMTPUTF8"),
        (("8BITMIME",), "jürgen@example.com", b"x", Failed, None),
        (("SIZE 50",), "a@example.com", b"x" * 100, Failed, None),
        (("SIZE 0",), "a@example.com", b"x" * 100, Sent, r" SIZE=\d+"),
        (ALL, '"a b"@example.com', b"x", Sent, r" SIZE=\d+"),
        (ALL, '"a<b>\\"c"@example.com', b"x", Sent, r" SIZE=\d+"),
        (ALL, '"a\tb"@example.com', b"x", Failed, None),
        (ALL, '"a>@example.com', b"x", Failed, None),
        (ALL, "a b@example.com", b"x", Failed, None),
        (ALL, "a>\r\nRCPT TO:<b@example.com", b"x", Failed, None),
    ],
)
def test_mail_is_offered_with_what_it_needs_and_fails_where_that_is_not_taken(
    new_sender: NewSender,
    *,
    extensions: tuple[str, ...],
    email: str,
    body: bytes,
    outcome: type[Outcome],
    parameters: str | None,
) -> None:
    with ScriptedServer(extensions=extensions) as server:
        sender = new_sender(server, compose=lambda claim: write_mail(claim, body))
        assert type(send(sender, [make_claim(1, email)])[0]) is outcome
        offers = [event.argument for event in server.events if event.verb == "MAIL"]
        if parameters is None:
            assert offers == []
        else:
            assert re.fullmatch(rf"FROM:<drip@example.org>{parameters}", offers[0])


@pytest.mark.parametrize(
    ("reply", "provider_id"),
    [
        ("250 2.0.0 Ok: queued as 4XyZ1b2c3d", "4XyZ1b2c3d"),
        ("250 2.0.0 OK  1700000000 d9443c01a7336-1d9f.12 - gsmtp", "d9443c01a7336-1d9f.12"),
        ("250 Ok 0102018c1234abcd-11aa22bb-000000", "0102018c1234abcd-11aa22bb-000000"),
        ("250 OK id=1rPAbc-0001Xy-2z", "1rPAbc-0001Xy-2z"),
        ("250 2.6.0 <a@b> [InternalId=12345, Hostname=x] Queued mail", "12345"),
        ("250 2.0.0 40F9Abcd012345 Message accepted for delivery", "40F9Abcd012345"),
        ("250 OK", None),
        ("250 2.0.0 thank you", None),
    ],
)
def test_the_servers_own_id_is_kept(
    new_sender: NewSender, reply: str, provider_id: str | None
) -> None:
    with ScriptedServer(at("DOT", f"{reply}\r\n".encode())) as server:
        assert send_one(new_sender(server)) == Sent(provider_id)


# TLS and AUTH


def with_user(server: ScriptedServer, certificates: Certificates, **more: str) -> SmtpServer:
    security = Security.TLS if server.is_tls else Security.STARTTLS
    what = {"user": USER, "password": PASSWORD, "cafile": certificates.cafile, **more}
    return address(server, security, **what)


@pytest.mark.parametrize("is_tls", [True, False], ids=["smtps", "starttls"])
def test_a_user_is_authenticated_over_tls_alone(
    new_sender: NewSender, certificates: Certificates, *, is_tls: bool
) -> None:
    with ScriptedServer(context=certificates.context, is_tls=is_tls, has_auth=True) as server:
        outcomes = send(new_sender(with_user(server, certificates), concurrency=3), make_claims(9))
        assert [type(outcome) for outcome in outcomes] == [Sent] * 9
        assert {event.is_tls for event in server.events if event.verb in ("AUTH", "MAIL")} == {True}


def test_a_long_message_arrives_whole_over_tls_among_others(
    new_sender: NewSender, certificates: Certificates
) -> None:
    def compose(claim: Claim) -> Mail:
        return write_mail(claim, b"0123456789abcdef\r\n" * (150_000 if claim.lead_id == 2 else 1))

    with ScriptedServer(
        extensions=("PIPELINING",), context=certificates.context, is_tls=True, has_auth=True
    ) as server:
        where = with_user(server, certificates)
        sender = new_sender(where, concurrency=3, compose=compose)
        assert [type(outcome) for outcome in send(sender, make_claims(9))] == [Sent] * 9
        assert sorted(server.bodies) == sorted(compose(claim).data for claim in make_claims(9))


@pytest.mark.parametrize("is_tls", [True, False], ids=["smtps", "starttls"])
@pytest.mark.parametrize("what", ["authority", "name"])
def test_a_wrong_certificate_ends_it_before_anything_is_said(
    new_sender: NewSender, certificates: Certificates, what: str, *, is_tls: bool
) -> None:
    context: ssl.SSLContext = certificates.context
    more = {"cafile": ""}
    if what == "name":
        context, more = certificates.wrong_name, {}
    with ScriptedServer(context=context, is_tls=is_tls, has_auth=True) as server:
        outcome = send_one(new_sender(with_user(server, certificates, **more)))
        assert isinstance(outcome, Refused)
        assert "certificate" in outcome.reason
        assert not {"AUTH", "MAIL"} & set(server.verbs())


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (at("STARTTLS", b"454 4.7.0 not now\r\n"), "454 4.7.0 not now"),
        (at("STARTTLS", b"220 go on\r\n250 injected\r\n"), "plain text behind"),
        (at("STARTTLS", Act.HANG_UP), "closed the connection"),
        (at("EHLO", b"250 plain\r\n"), "does not offer it"),
        (at("EHLO", b"500 what\r\n"), "does not offer it"),
        (at("AUTH", b"535 5.7.8 no\r\n"), "535 5.7.8 no"),
        (at("AUTH", b"454 4.7.0 later\r\n"), "454 4.7.0 later"),
        (at("AUTH", Act.HANG_UP), "closed the connection"),
    ],
)
def test_without_starttls_or_auth_the_server_as_a_whole_refuses(
    new_sender: NewSender, certificates: Certificates, rule: Rule, says: str
) -> None:
    with ScriptedServer(rule, context=certificates.context, has_auth=True) as server:
        outcome = send_one(new_sender(with_user(server, certificates)))
        assert isinstance(outcome, Refused)
        assert says in outcome.reason
        assert "MAIL" not in server.verbs()


def test_a_server_that_offers_no_auth_is_not_sent_a_password(
    new_sender: NewSender, certificates: Certificates
) -> None:
    with ScriptedServer(context=certificates.context) as server:
        outcome = send_one(new_sender(with_user(server, certificates)))
        assert isinstance(outcome, Refused)
        assert "offers none of PLAIN and LOGIN" in outcome.reason


@pytest.mark.parametrize(
    "offer", ["AUTH LOGIN", "AUTH=LOGIN", "auth=login plain", "AUTH CRAM-MD5 LOGIN"]
)
def test_servers_with_login_alone_or_an_old_way_to_offer_it_are_served(
    new_sender: NewSender, certificates: Certificates, offer: str
) -> None:
    with ScriptedServer(context=certificates.context, has_auth=True, auth=offer) as server:
        assert isinstance(send_one(new_sender(with_user(server, certificates))), Sent)


def test_the_name_that_a_server_gives_a_message_is_no_way_for_the_password_to_get_out(
    new_sender: NewSender, certificates: Certificates
) -> None:
    rule = at("DOT", f"250 2.0.0 Ok: queued as {PASSWORD}\r\n".encode())
    with ScriptedServer(rule, context=certificates.context, has_auth=True) as server:
        outcome = send_one(new_sender(with_user(server, certificates)))
        assert isinstance(outcome, Sent)
        assert PASSWORD not in str(outcome)


@pytest.mark.parametrize("verb", ["AUTH", "MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("is_cut", [True, False])
def test_a_server_that_echoes_the_password_is_not_quoted(
    new_sender: NewSender, certificates: Certificates, verb: str, *, is_cut: bool
) -> None:
    token = b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    shown = token[:-3] if is_cut else f"{token} {PASSWORD} {b64encode(PASSWORD.encode()).decode()}"
    rule = at(verb, f"535 5.7.8 bad: {shown}\r\n".encode())
    with ScriptedServer(rule, context=certificates.context, has_auth=True) as server:
        outcome = send_one(new_sender(with_user(server, certificates)))
        reason = getattr(outcome, "reason", "")
        assert "5.7.8 bad: ***" in reason
        for secret in (PASSWORD, token[:-3], b64encode(PASSWORD.encode()).decode()):
            assert secret not in reason


def test_a_file_without_certificates_is_refused_when_the_sender_is_made(
    new_sender: NewSender,
) -> None:
    for cafile in ("/no/such/file.pem", __file__):
        with pytest.raises(SettingsError, match=r"^SMTP_URL: cafile=.* certificates"):
            new_sender(SmtpServer("127.0.0.1", 25, Security.TLS, cafile=cafile))


# Between two waves


def test_a_connection_that_does_not_come_about_holds_up_nobody_who_has_another(
    new_sender: NewSender,
) -> None:
    let_go = threading.Event()

    def rule(event: Event) -> None:
        if event.verb == "GREETING" and event.connection == 1:
            let_go.wait(10)

    with ScriptedServer(rule) as server:
        sender = new_sender(server, concurrency=2, timeouts=replace(QUICK, reply=10))
        assert [type(outcome) for outcome in send(sender, make_claims(2))] == [Sent, Sent]
        for number in (3, 4):
            assert isinstance(send_one(sender, number), Sent)
        let_go.set()
        assert server.connections == 2


def test_what_a_wave_that_broke_off_had_not_begun_is_never_handed_over(
    new_sender: NewSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdrip.senders.smtp.TICK_SECONDS", 0.05)
    go_on = threading.Event()

    def rule(event: Event) -> None:
        if event.verb == "RCPT" and event.times == 0:
            go_on.wait(10)

    with ScriptedServer(rule) as server:
        sender = new_sender(server, timeouts=replace(QUICK, reply=10))
        wave = sender.send_wave([make_claim(1)], lambda _: True)
        assert next(wave) is None
        with pytest.raises(RuntimeError, match="it broke"):
            wave.throw(RuntimeError("it broke"))
        go_on.set()
        assert isinstance(send_one(sender, 2), Sent)
        assert len(server.accepted) == 1
