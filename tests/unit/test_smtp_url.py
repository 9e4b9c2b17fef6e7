"""SMTP_URL: what is taken, what is refused, and that no password is ever shown."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.errors import SettingsError
from hyperdrip.smtp_url import Security, SmtpServer, parse_smtp_url

NONE, STARTTLS, TLS = Security.NONE, Security.STARTTLS, Security.TLS


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("smtp://h", SmtpServer("h", 587, STARTTLS)),
        ("smtps://h", SmtpServer("h", 465, TLS)),
        ("SMTP://Mail.Example.COM/", SmtpServer("mail.example.com", 587, STARTTLS)),
        ("smtp://h:25?starttls=never", SmtpServer("h", 25, NONE)),
        ("smtp://h?starttls=required", SmtpServer("h", 587, STARTTLS)),
        ("smtp://[::1]", SmtpServer("::1", 587, STARTTLS)),
        ("smtps://a:b@[2001:DB8::25]:4650", SmtpServer("2001:db8::25", 4650, TLS, "a", "b")),
        ("smtp://a%40b.c:p%3Aq%2F%3F%23%25@h", SmtpServer("h", 587, STARTTLS, "a@b.c", "p:q/?#%")),
        ("smtp://%C3%BC:%E2%82%AC@h", SmtpServer("h", 587, STARTTLS, "ü", "€")),
        ("smtp://b\u00fccher.example", SmtpServer("xn--bcher-kva.example", 587, STARTTLS)),
        ("smtps://h?cafile=/etc/my%20ca.pem", SmtpServer("h", 465, TLS, cafile="/etc/my ca.pem")),
        ("smtp://mail_relay:2525", SmtpServer("mail_relay", 2525, STARTTLS)),
    ],
)
def test_a_server_is_read_from_its_address(text: str, server: SmtpServer) -> None:
    assert parse_smtp_url("SMTP_URL", text) == server


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mail.example.com", "smtp:// or smtps://"),
        ("http://u:geheim@h", "smtp:// or smtps://"),
        ("smtp://", "has no host"),
        ("smtp://u:geheim@", "has no host"),
        ("smtp://u:ge/heim@h", "percent-encoded"),
        ("smtp://u:ge#heim@h", "percent-encoded"),
        ("smtp://u:ge?heim@h", "percent-encoded"),
        ("smtp://u:12?heim@h", "option other than"),
        ("smtp://u:ge[heim@h", "percent-encoded"),
        ("smtp://u:ge heim@h", "%20"),
        ("smtp://u:%FFgeheim@h", "not UTF-8"),
        ("smtp://u:%00geheim@h", "NUL"),
        ("smtp://u:geheim@h:99999", "percent-encoded"),
        ("smtp://u:geheim@h:0", "percent-encoded"),
        ("smtp://u@h", "user without a password"),
        ("smtp://:geheim@h", "user without a password"),
        ("smtp://u:geheim@h?starttls=never", "over TLS only"),
        ("smtp://u:geheim@127.0.0.1?starttls=never", "over TLS only"),
        ("smtp://u:geheim@h?starttls=sometimes", "other than never"),
        ("smtp://u:geheim@h?verify=no", "option other than"),
        ("smtp://u:geheim@h?cafile=/a&cafile=/b", "option other than"),
        ("smtps://u:geheim@h?starttls=required", "TLS from the start"),
        ("smtp://h?starttls=never&cafile=/a", "no use"),
        ("smtp://u:geheim@h?cafile=", "empty"),
        ("smtp://u:geheim@-h-", "has no host"),
        ("smtp://u:geheim@h/path", "percent-encoded"),
    ],
)
def test_what_is_wrong_is_said_without_any_part_of_it(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_smtp_url("SMTP_URL", text)
    message = str(refusal.value)
    assert message.startswith("SMTP_URL ")
    assert says in message
    assert message.isprintable()
    for part in ("geheim", "heim"):
        assert part not in message
    assert refusal.value.__cause__ is None


@given(
    user=st.text(min_size=1).filter(lambda text: "\0" not in text),
    password=st.text(min_size=1).filter(lambda text: "\0" not in text),
)
def test_any_credentials_survive_when_encoded_and_are_never_shown(user: str, password: str) -> None:
    try:
        text = f"smtps://{quote(user, safe='')}:{quote(password, safe='')}@mail.example.com"
    except UnicodeEncodeError:
        return  # half a character
    server = parse_smtp_url("SMTP_URL", text)
    assert (server.user, server.password) == (user, password)
    same = SmtpServer("mail.example.com", 465, TLS)
    assert (repr(server), str(server)) == (repr(same), "smtps://mail.example.com:465")


@given(st.text(max_size=40))
def test_whatever_is_written_is_taken_or_refused(rest: str) -> None:
    complaint = ""
    try:
        parse_smtp_url("SMTP_URL", f"smtp://{rest}")
    except SettingsError as refusal:
        complaint = str(refusal)
    assert complaint.isprintable()
