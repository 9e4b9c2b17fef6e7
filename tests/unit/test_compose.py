"""Whole messages: what a lead holds never becomes a header, a tag, a template or a crash."""

import email
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyperdrip.compose import _has_short_lines, compose, make_letterhead
from hyperdrip.errors import InvalidDataError, RenderError, SettingsError
from hyperdrip.headers import Mailbox, check_address, parse_mailbox, write_mailbox, write_text
from hyperdrip.markdown import HTML_END
from hyperdrip.models import Campaign, Mail, Recipient, Rendered, Step
from hyperdrip.rendering import add_notice, compile_campaign
from hyperdrip.settings import Settings
from hyperdrip.template_values import CONTROL, usable

DATE = datetime(2024, 1, 15, 9, tzinfo=UTC)
MARKDOWN = """\
# Hello {{ name }}

[Look **here**]({{ site }}/for/{{ fields.tag | default('all') }}), and `{{ fields.n | d('-') }}`.

- {{ fields.n | default('nothing noted') }}

{% for item in fields.list | default([]) %}
- {{ item }}
{% endfor %}

{% if fields.tag is defined %}
Tag: *{{ fields.tag }}*, list: {{ fields.list | default([]) | join(', ') }}.
{% endif %}
"""
CAMPAIGN = Campaign(
    "trial",
    (
        Step(
            1, "{{ name }}: {{ fields.tag | default('hello') }}", MARKDOWN, preheader="{{ name }}!"
        ),
    ),
    footer="Written to {{ email }}.",
    values={"site": "https://example.com"},
)
SETTINGS = Settings(
    mail_from='"Marlowe, Ada" <ada@example.com>',
    reply_to="Zoë <zoe@bücher.example>",
    postal_address="Acme & Söhne, 1 Road",
    public_url="https://u.example.com",
    unsubscribe_mailto="unsubscribe@example.com",
)
COMPILED = compile_campaign(CAMPAIGN)
LETTERHEAD = make_letterhead(CAMPAIGN, SETTINGS, instance="7:42")
OUR_HEADERS = [
    "From", "Reply-To", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe",
    "List-Unsubscribe-Post", "List-Id", "Feedback-ID", "MIME-Version", "Content-Type",
]  # fmt: skip
HTML_TAGS = {
    "html", "head", "meta", "title", "body", "div", "h1", "p", "a", "strong", "code", "ul", "li",
    "em", "br",
}  # fmt: skip
URL = "https://u.example.com/unsubscribe/lead_7.abc"


def write(recipient: Recipient, *, key: str = "lead_7-1-1") -> Mail:
    rendered = COMPILED.render(1, recipient)
    return compose(rendered, LETTERHEAD, recipient, key=key, date=DATE, token="lead_7.abc")


class Seen(HTMLParser):
    """The tags, the addresses and the visible text of a document."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.addresses, self.text = set[str](), list[str](), ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        allowed = {"href", "style", "class", "charset", "name", "content", "lang"}
        assert {name for name, _ in attrs} <= allowed

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def squeezed(text: str) -> str:
    return " ".join(text.split())


HOSTILE = [
    "{{ 7*7 }}", "{% for x in range(9) %}", "{# gone #}", "{{ config }}{{ ''.__class__ }}",
    "**bold** _it_ `code`", "[a](javascript:alert(1))", "<script>alert(1)</script>", "&amp;<!--",
    '"><img src=x onerror=y>', "\r\nBcc: eve@example.com\r\n\r\nhello", "a\rb\nc", "\x00\x1b[31m",
    "=?utf-8?q?Bcc=3A_eve?=", "=?utf-8?b?AAAA?= =?x", "مرحبا بالعالم",
    "\u202eevil\u202c", "🦊👩‍👩‍👧",
    "Zoë O'Neill", "x" * 5_000, "é" * 3_000, "word " * 1_000, " ", "\u200b", "\udcff", "a\u2028b",
    ".\r\n.", "--=_", "hd0v hdx1t", "From me", "\\\"quo\\ted\"", "a, b; c <d@e.example>", "=\t=20 ",
]  # fmt: skip
values = st.sampled_from(HOSTILE) | st.text(max_size=40) | st.text(st.characters(codec=None))
mixed = st.builds(lambda *parts: "".join(parts), values, values)
# Most are such that a message is written; what is refused is tested below, one by one.
names = st.one_of(
    st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"]), min_size=1, max_size=90),
    st.sampled_from([text for text in HOSTILE if len(text) < 200 and not CONTROL.search(text)]),
    st.sampled_from(HOSTILE),
)  # fmt: skip
addresses = st.one_of(
    st.emails(),
    st.sampled_from([
        "ada@example.com", '"ada b"@example.com', '"a\\"@b"@example.com', "zoë@bücher.example",
        "ada@bücher.example", "ada@[192.0.2.1]", "üñ@例え.テスト", "{{7*7}}@example.com",
    ]),
)  # fmt: skip
fields_of_leads = st.fixed_dictionaries(
    {},
    optional={
        "tag": mixed,
        "list": st.lists(mixed, max_size=3),
        "__class__": mixed,
        "items": st.none() | mixed,
    },
)


@settings(max_examples=150)
@given(name=names, address=addresses, notes=st.none() | mixed, fields=fields_of_leads)
@example(name="Ada", address="<ada@example.com>, eve@example.com", notes=None, fields={})
@example(name="Ada", address="ada@example.com\r\nBcc: e@example.com", notes=None, fields={})
@example(name="Ada", address="ada@example.com", notes="{{ 7*7 }} {% raw %}", fields={})
@example(name="Ada", address="ada@example.com", notes=None, fields={"tag": "n" * 2_000_000})
@example(name="Ada", address="ada@example.com", notes=None, fields={"tag": "s" * 5_000})
@example(name="Ada\r\nBcc: eve@example.com", address="a@example.com", notes=None, fields={})
@example(name="=?utf-8?q?=0D=0ABcc:_eve?=", address="a@example.com", notes=None, fields={})
@example(name="Ada", address="a@example.com", notes="\r\n--=_{}--\r\n", fields={})
@example(name="{{ 7*7 }}", address="a@example.com", notes="{% for x in y %}", fields={"tag": "{%"})
@example(name="\u202e\u0645\u0631\u062d\u0628", address="a@example.com", notes="\u202b", fields={})
@example(
    name="\U0001f469\u200d\U0001f467", address="a@example.com", notes="🦊", fields={"tag": "🦊"}
)
@example(name="Ada", address='"ada \\"b@c\\", "@example.com', notes=None, fields={})
@example(name="Ada", address="a@example.com", notes="n" * 2_000_000, fields={})
@example(name="Ada", address="a@example.com", notes=None, fields={"list": ["a\r\n.\r\nb", "\0"]})
def test_whatever_a_lead_holds_a_message_says_just_that_or_is_refused_in_a_line(
    name: str, address: str, notes: str | None, fields: dict[str, Any]
) -> None:
    recipient = Recipient(name, address, {**fields, "n": notes})
    try:
        mail = write(recipient)
    except RenderError as refusal:
        assert_is_a_short_line(refusal)
        return
    assert mail == write(recipient)
    assert_is_smtp(mail)
    # Raw UTF-8 in an address is read back as text; `email` takes bytes for Latin-1 there.
    parsed = email.message_from_string(mail.data.decode(), policy=SMTP)
    assert parsed.keys() == OUR_HEADERS
    assert addressee(mail) == (name.strip(), mail.rcpt_to)
    shown = usable(name)
    tag = usable(fields.get("tag"))
    assert parsed["Subject"] == squeezed(f"{shown}: {tag or 'hello'}")
    items = usable(fields.get("list", []))
    assert_says(parsed, shown, usable(notes), (tag, items), usable(address))


def assert_is_a_short_line(refusal: RenderError) -> None:
    assert str(refusal).startswith("step 1: ")
    assert len(str(refusal)) < 400
    assert str(refusal).isprintable()
    # What is only in a body is written as it is, without what no text has.
    assert "its text has" not in str(refusal)


def addressee(mail: Mail) -> tuple[str, str]:
    """Name and address as RFC 2047 has them: `policy.SMTP` takes apart what is in the name."""
    raw = email.message_from_string(mail.data.decode())["To"].replace("\r\n", "")
    name, address = parseaddr(raw)
    return str(make_header(decode_header(name))), address


def assert_is_smtp(mail: Mail) -> None:
    assert mail.data.endswith(b"\r\n")
    lines = mail.data.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    assert mail.data.isascii() or mail.needs_smtputf8


def said(parsed: EmailMessage) -> list[str]:
    """The text of each part, with LF."""
    return [part.get_content().replace("\r\n", "\n") for part in parsed.iter_parts()]


def assert_says(
    parsed: EmailMessage,
    name: str,
    notes: str | None,
    fields: tuple[str | None, list[str]],
    address: str,
) -> None:
    """Both parts have exactly what they should, the rest of it being fixed."""
    text, html = said(parsed)
    seen = Seen(html)
    assert seen.tags <= HTML_TAGS
    assert all(url.startswith("https://") for url in seen.addresses)
    link = seen.addresses[0]
    assert link.startswith("https://example.com/for/")
    assert link.isascii()
    tail = f"Written to {address}."
    tag, items = fields
    bullets = "".join(f"\n- {item}" for item in items)
    tag_line = f"\n\nTag: {tag}, list: {', '.join(items)}." if tag else ""
    assert text == (
        f"Hello {name}\n\nLook here ({link}), and {notes or '-'}.\n\n- {notes or 'nothing noted'}"
        f"{bullets}{tag_line}\n\n--\n{tail}\n\nAcme & Söhne, 1 Road\nUnsubscribe: {URL}\n"
    )
    subject = squeezed(f"{name}: {tag or 'hello'}")
    assert squeezed(seen.text).replace(" ", "") == squeezed(
        f"{subject}{name}!Hello {name} Look here, and {notes or '-'}. {notes or 'nothing noted'}"
        f"{' '.join(items)} {tag_line} {tail} Acme & Söhne, 1 RoadUnsubscribe"
    ).replace(" ", "")


def test_a_message_is_written_as_the_standards_have_it() -> None:
    mail = write(Recipient("Ada Marlowe", "ada@example.com"))
    head = mail.data.decode().partition("\r\n\r\n")[0]
    assert head.split("\r\n")[:12] == [
        'From: "Marlowe, Ada" <ada@example.com>',
        "Reply-To: =?utf-8?b?Wm/Dqw==?= <zoe@xn--bcher-kva.example>",
        "To: Ada Marlowe <ada@example.com>",
        "Subject: Ada Marlowe: hello",
        "Date: Mon, 15 Jan 2024 09:00:00 +0000",
        f"Message-ID: {mail.message_id}",
        f"List-Unsubscribe: <{URL}>,",
        " <mailto:unsubscribe@example.com?subject=unsubscribe%20lead_7.abc>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "List-Id: <trial.example.com>",
        "Feedback-ID: step-1:trial:drip:hyperdrip",
        "MIME-Version: 1.0",
    ]
    assert re.fullmatch(r"<lead_7-1-1\.[0-9a-f]{12}@example\.com>", mail.message_id)
    assert (mail.mail_from, mail.rcpt_to) == ("ada@example.com", "ada@example.com")
    assert not mail.needs_smtputf8


@given(st.lists(st.sampled_from([0, 1, 500, 997, 998, 999, 1000, 1997])))
def test_lines_are_measured_as_if_each_was_looked_at(lengths: list[int]) -> None:
    octets = b"\n".join(b"x" * length for length in lengths)
    assert _has_short_lines(octets) is (max(lengths, default=0) <= 998)


def test_equal_instants_are_each_written_with_their_own_offset() -> None:
    recipient = Recipient("Ada", "ada@example.com")
    rendered = COMPILED.render(1, recipient)
    for hours in (0, 1, -5):
        date = DATE.astimezone(timezone(timedelta(hours=hours)))
        data = compose(rendered, LETTERHEAD, recipient, key="k", date=date).data
        assert f"\r\nDate: {format_datetime(date)}\r\n".encode() in data


def test_messages_differ_in_id_and_boundary_and_databases_in_their_ids() -> None:
    recipient = Recipient("Ada", "ada@example.com")
    other = make_letterhead(CAMPAIGN, SETTINGS, instance="8:42")
    rendered = COMPILED.render(1, recipient)
    mails = [
        write(recipient),
        write(recipient, key="lead_7-1-2"),
        compose(rendered, other, recipient, key="lead_7-1-1", date=DATE),
    ]
    assert len({mail.message_id for mail in mails}) == 3
    assert len({re.search(rb'boundary="(.*)"', mail.data)[1] for mail in mails}) == 3  # type: ignore[index]
    assert b"List-Unsubscribe" not in mails[2].data


def test_a_lead_that_knows_the_boundary_cannot_end_a_part() -> None:
    # In ASCII, so that no `=` is encoded.
    letterhead = make_letterhead(CAMPAIGN, replace(SETTINGS, postal_address="Acme"))

    def written(notes: str) -> bytes:
        recipient = Recipient("A", "a@example.com", {"n": notes})
        rendered = COMPILED.render(1, recipient)
        return compose(rendered, letterhead, recipient, key="k", date=DATE).data

    def boundary(data: bytes) -> str:
        found = re.search(rb'boundary="(.*)"', data)
        assert found
        return found[1].decode()

    first = boundary(written("-"))
    notes = f"a\n--{first}\nContent-Type: text/html\n\n<b>mine</b>"
    second = boundary(written(notes))
    notes += f"\n--{second}--"
    parsed = email.message_from_bytes(written(notes), policy=SMTP)
    assert len({first, second, boundary(written(notes))}) == 3
    assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "text/html"]
    assert notes in said(parsed)[0]


def test_an_address_that_needs_smtputf8_says_so_and_another_domain_is_written_in_ascii() -> None:
    mail = write(Recipient("Zoë", "zoë@bücher.example"))
    assert mail.needs_smtputf8
    assert "<zoë@xn--bcher-kva.example>\r\n" in mail.data.decode()
    assert not write(Recipient("Zoë", "zoe@bücher.example")).needs_smtputf8
    answered = make_letterhead(CAMPAIGN, replace(SETTINGS, reply_to="zoë@example.com"))
    ada = Recipient("Ada", "ada@example.com")
    assert compose(COMPILED.render(1, ada), answered, ada, key="k", date=DATE).needs_smtputf8


@pytest.mark.parametrize("text", ["a\rb", "a\0", "\x1b", "\ud800", "a\r\n.\r\n"])
def test_no_body_takes_a_bare_line_end_or_a_control_character(text: str) -> None:
    for rendered in (
        Rendered(1, "s", "", HTML_END, text),
        Rendered(1, "s", "", text + HTML_END, "a"),
    ):
        with pytest.raises(RenderError, match=r"^step 1: its text has .*; take it out$"):
            compose(rendered, LETTERHEAD, Recipient("A", "a@example.com"), key="k", date=DATE)


@pytest.mark.parametrize("word", ["x" * 3000, "\xe9" * 100 + "x" * 3000, "\xe9" * 3000])
def test_a_body_that_is_one_long_line_has_no_other_line_ends_than_crlf(word: str) -> None:
    rendered = Rendered(1, "s", "", word + HTML_END, word)
    mail = compose(rendered, LETTERHEAD, Recipient("A", "a@example.com"), key="k", date=DATE)
    assert b"\n" not in mail.data.replace(b"\r\n", b"")
    for body in said(email.message_from_bytes(mail.data, policy=SMTP)):
        assert unescape(body).startswith(word)


def test_the_ways_out_are_those_that_the_settings_have() -> None:
    recipient = Recipient("Ada", "ada@example.com")
    rendered = COMPILED.render(1, recipient)
    plain = Settings(mail_from="a@example.com", postal_address="Acme\r\n1 Road\n")
    by_mail = replace(plain, unsubscribe_mailto="mailto:off@example.com", postal_address="")

    def parsed(settings: Settings) -> EmailMessage:
        letterhead = make_letterhead(CAMPAIGN, settings)
        mail = compose(rendered, letterhead, recipient, key="k", date=DATE, token="t.s")
        assert_is_smtp(mail)
        return email.message_from_bytes(mail.data, policy=SMTP)

    way_out = "mailto:off@example.com?subject=unsubscribe%20t.s"
    found = parsed(by_mail)
    assert found["List-Unsubscribe"] == f"<{way_out}>"
    assert "List-Unsubscribe-Post" not in found
    text, html = said(found)
    assert text.endswith(f"\n\nUnsubscribe: {way_out}\n")
    assert Seen(html).addresses[-1] == way_out
    found = parsed(replace(plain, postal_address=""))
    assert said(found)[0] == rendered.text
    found = parsed(plain)
    assert "List-Unsubscribe" not in found
    text, html = said(found)
    assert text.endswith("\n\nAcme\n1 Road\n")
    assert "Acme<br>1 Road</p>" in html


def test_the_campaign_s_own_sender_goes_before_the_settings() -> None:
    own = replace(CAMPAIGN, mail_from="Own <own@example.org>")
    assert make_letterhead(own, SETTINGS).mail_from.email == "own@example.org"
    with pytest.raises(InvalidDataError, match=r"^campaign's from 'Own' is no e-mail address"):
        make_letterhead(replace(CAMPAIGN, mail_from="Own"), SETTINGS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mail_from": ""}, "MAIL_FROM is empty"),
        ({"mail_from": "Ada <ada@example.com>\r\nBcc: eve@example.com"}, "line break"),
        ({"mail_from": "Ada"}, "MAIL_FROM 'Ada' is no e-mail address"),
        ({"reply_to": "a@b@c"}, "REPLY_TO 'a@b@c' is no e-mail address"),
        ({"public_url": "http://u.example.com"}, "https only"),
        ({"public_url": "https://u.example.com> x"}, "PUBLIC_URL"),
        ({"public_url": "https://"}, "PUBLIC_URL='https://'"),
        ({"public_url": "https:///u"}, "PUBLIC_URL='https:///u'"),
        ({"public_url": "https://u.example.com/#a"}, "PUBLIC_URL='https://u.example.com/#a'"),
        ({"public_url": "https://u.example.com/?a=1"}, "PUBLIC_URL='https://u.example.com/?a=1'"),
        ({"unsubscribe_mailto": "nobody"}, "UNSUBSCRIBE_MAILTO 'nobody' is no e-mail address"),
        ({"unsubscribe_mailto": "é@example.com"}, "is not ASCII"),
        ({"postal_address": "Acme\x07"}, "POSTAL_ADDRESS 'Acme\\x07' has a line break or a con"),
    ],
)
def test_a_setting_that_cannot_stand_in_a_header_is_refused_by_name(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(reason)):
        make_letterhead(CAMPAIGN, Settings(**{"mail_from": "a@example.com", **changes}))


# Headers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada@example.com", Mailbox("", "ada@example.com")),
        ("Ada Marlowe <ada@example.com>", Mailbox("Ada Marlowe", "ada@example.com")),
        ('"M, \\"A\\"" <"a b"@example.com>', Mailbox('M, "A"', '"a b"@example.com')),
        ('"A  B" <ab@example.com>', Mailbox("A  B", "ab@example.com")),
        ("Zoë <zoe@bücher.example>", Mailbox("Zoë", "zoe@xn--bcher-kva.example")),
        ("zoe@bücher.example\u3002", Mailbox("", "zoe@xn--bcher-kva.example")),
    ],
)
def test_a_mailbox_is_read_and_written(text: str, expected: Mailbox) -> None:
    found = parse_mailbox("from", text)
    assert found == expected
    read_back = email.message_from_string(write_mailbox("From", found) + "\r\n", policy=SMTP)
    assert read_back["From"].addresses[0].display_name == expected.name


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b", "a@b..c", "a b@c", ".a@b", "a@-b", "a@b\n", "a@b>", '"a@b', "a@b c",
     "a" * 400 + "@b", "a@b,c@d", "a@xn--\u00e9", "a\u00a0b@c", "a@\u00ad"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidDataError):
        check_address("To", address)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=300))
@example("some words " * 30)
@example("x" * 500 + " " + "y" * 300)
def test_a_subject_comes_back_as_it_was_in_lines_that_fit(text: str) -> None:
    subject = squeezed(text)
    written = write_text("Subject", subject)
    assert max(map(len, written.split("\r\n"))) <= 78
    assert written.isascii()
    assert email.message_from_string(f"{written}\r\n", policy=SMTP)["Subject"] == subject


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "\0", "\x1b", "\x85", "\u2028", "\udcff"])
def test_no_header_takes_a_line_break_or_a_control_character(value: str) -> None:
    with pytest.raises(InvalidDataError, match="line break or a control"):
        write_text("Subject", value)
    with pytest.raises(InvalidDataError, match="line break or a control"):
        write_mailbox("To", Mailbox(value, "ada@example.com"))


# Speed


def fastest(function: Callable[[], object], times: int) -> float:
    def once() -> float:
        start = time.process_time()
        for _ in range(times):
            function()
        return (time.process_time() - start) / times

    return min(once() for _ in range(5))


@pytest.mark.parametrize("name", ["Ada Marlowe", "Zoë Ångström"])
def test_a_message_is_rendered_and_written_three_times_faster_than_email_writes_it(
    name: str,
) -> None:
    recipient = Recipient(name, "ada@example.com", {"n": "Met at the fair."})
    parsed = email.message_from_bytes(write(recipient).data, policy=SMTP)
    complete = add_notice(
        COMPILED.render(1, recipient),
        unsubscribe_url=URL,
        postal_address=SETTINGS.postal_address,
    )

    def by_email() -> bytes:
        message = EmailMessage(policy=SMTP)
        for header in OUR_HEADERS[:-2]:
            message[header] = str(parsed[header])
        message.set_content(complete.text)
        message.add_alternative(complete.html, subtype="html")
        return message.as_bytes()

    assert fastest(by_email, 20) > 3 * fastest(lambda: write(recipient), 100)
