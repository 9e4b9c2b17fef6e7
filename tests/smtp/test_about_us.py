"""A server that refuses us, or is in trouble, and not the recipient: nobody fails for that."""

from collections.abc import Callable
from typing import Any

import pytest

from hyperdrip.models import Claim, Mail
from hyperdrip.senders import Failed, Refused, Retry, Sent
from hyperdrip.senders.smtp import SmtpSender
from hyperdrip.senders.smtp_replies import ASIDE_SECONDS
from tests.smtp.mails import make_claims, send, send_one, write_mail
from tests.smtp.scripted import Event, Rule, ScriptedServer
from tests.smtp.test_outcomes import at

NewSender = Callable[..., SmtpSender]

# What servers say for each recipient, or of each message, when they mean the sender or themselves.
ABOUT_US = [
    ("RCPT", b"530 5.7.0 Authentication required"),
    ("RCPT", b"554 5.7.1 <l2@example.com>: Relay access denied"),
    ("RCPT", b"550 5.1.2 Relay not allowed."),
    ("RCPT", b"553 sorry, that domain isn't in my list of allowed rcpthosts"),
    ("RCPT", b"550 Administrative prohibition (#5.7.1)"),
    ("RCPT", b"550 5.1.8 <drip@example.org>: Sender address rejected: Domain not found"),
    ("RCPT", b"550 5.1.7 <drip@example.org>: Sender address rejected: undeliverable"),
    ("RCPT", b"550 5.4.5 Daily user sending limit exceeded."),
    ("RCPT", b"550 5.1.90 You have exceeded your limit for today"),
    ("RCPT", b"451 4.3.0 Temporary lookup failure"),
    ("DATA", b"452 4.3.1 Insufficient system storage"),
    ("DOT", b"550 5.4.5 You have reached your limit for today"),
    ("DOT", b"554 Message rejected: Email address is not verified."),
    ("DOT", b"554 Message rejected: sending quota exceeded"),
    ("DOT", b"454 Throttling failure: Daily message quota exceeded"),
]


def unless(address: str, rule: Rule) -> Rule:
    """The rule for all transactions but those to this address."""
    recipients: dict[int, str] = {}

    def found(event: Event) -> Any:
        if event.verb == "RCPT":
            recipients[event.connection] = event.argument
        return None if address in recipients.get(event.connection, "") else rule(event)

    return found


@pytest.mark.parametrize(("verb", "reply"), ABOUT_US)
def test_a_refusal_that_is_about_us_fails_no_recipient_and_is_waited_out(
    new_sender: NewSender, verb: str, reply: bytes
) -> None:
    with ScriptedServer(unless("l1@", at(verb, reply + b"\r\n"))) as server:
        sender = new_sender(server)
        outcomes = [send_one(sender, lead_id) for lead_id in (2, 1, 2, 3, 4, 5, 1, 6)]
        # Also after a message was taken: the server may be two hosts, one of them set up badly.
        assert [type(outcome) for outcome in outcomes] == [
            *(Retry, Sent),
            *(Retry, Retry, Refused, Refused),
            *(Sent, Retry),
        ]


def test_one_closed_relay_does_not_fail_a_campaign(new_sender: NewSender) -> None:
    with ScriptedServer(at("RCPT", b"554 5.7.1 Relay access denied\r\n")) as server:
        sender = new_sender(server)
        outcomes = [send_one(sender, lead_id) for lead_id in range(1, 8)]
        assert [type(outcome) for outcome in outcomes] == [Retry, Retry, *[Refused] * 5]


def test_what_is_refused_as_the_third_in_a_row_steps_aside_for_others(
    new_sender: NewSender,
) -> None:
    with ScriptedServer(at("RCPT", b"550 5.7.1 this list is for members\r\n")) as server:
        sender = new_sender(server)
        *_, third, fourth = [send_one(sender, lead_id) for lead_id in range(1, 5)]
        said = Refused("550 5.7.1 this list is for members (to RCPT TO)", ASIDE_SECONDS)
        assert third == fourth == said
    # What is refused before a recipient is named would be refused for each: nothing steps aside.
    with ScriptedServer(at("MAIL", b"550 5.7.1 account suspended\r\n")) as server:
        assert send_one(new_sender(server)) == Refused("550 5.7.1 account suspended (to MAIL FROM)")


def test_a_recipient_behind_its_own_policy_fails_alone(new_sender: NewSender) -> None:
    def rule(event: Event) -> bytes | None:
        is_closed = event.verb == "RCPT" and "l2@" in event.argument
        return b"550 5.7.1 this list is for members\r\n" if is_closed else None

    with ScriptedServer(rule) as server:
        sender = new_sender(server)
        outcomes = [send_one(sender, lead_id) for lead_id in (1, 2, 3, 2, 3, 2, 3, 2)]
        assert [type(o) for o in outcomes] == [Sent, *[Failed, Sent] * 3, Failed]
        assert not any(o.is_address_dead for o in outcomes if isinstance(o, Failed))


def test_a_wave_ends_when_the_server_refuses_the_sender(new_sender: NewSender) -> None:
    with ScriptedServer(at("MAIL", b"550 5.7.1 account suspended\r\n")) as server:
        outcomes = send(new_sender(server, concurrency=1), make_claims(50))
        assert {type(outcome) for outcome in outcomes} == {Refused}
        assert server.verbs().count("MAIL") == 1


def test_a_server_that_takes_so_many_a_connection_is_met_with_another_one(
    new_sender: NewSender,
) -> None:
    taken: dict[int, int] = {}

    def rule(event: Event) -> bytes | None:
        if event.verb == "MAIL":
            taken[event.connection] = taken.get(event.connection, 0) + 1
        is_over = taken.get(event.connection, 0) > 3 and event.verb == "MAIL"
        return b"452 4.5.3 Too many messages sent\r\n" if is_over else None

    with ScriptedServer(rule) as server:
        sender = new_sender(server)
        outcomes = [send_one(sender, lead_id) for lead_id in range(1, 9)]
        assert [type(outcome) for outcome in outcomes] == [Sent] * 8
        assert server.connections == 3


@pytest.mark.parametrize("ours", [{"mail_from": "jürgen@example.org"}, {"needs_smtputf8": True}])
def test_an_address_of_ours_that_the_server_cannot_take_fails_nobody(
    new_sender: NewSender, ours: dict[str, Any]
) -> None:
    """`needs_smtputf8` alone: another address than those of the envelope, such as REPLY_TO."""

    def compose(claim: Claim) -> Mail:
        return write_mail(claim)._replace(**ours)

    with ScriptedServer(extensions=("PIPELINING", "8BITMIME")) as server:
        asked: list[int] = []
        wave = new_sender(server, compose=compose).send_wave(
            make_claims(3), lambda claim: not asked.append(claim.lead_id)
        )
        outcome, *others = [answer[1] for answer in wave if answer is not None]
        assert isinstance(outcome, Refused)
        assert others == [outcome, outcome]
        assert asked == [1]
        assert outcome.reason.startswith("MAIL_FROM or REPLY_TO: the server does not take")
        assert "MAIL" not in server.verbs()
