"""Settings: each one good, bad and empty; where they come from; what is never shown."""

import os
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.domain_limits import DomainLimits
from hyperdrip.errors import SettingsError
from hyperdrip.settings import PARSERS, Settings, load, parse
from hyperdrip.smtp_url import Security, SmtpServer

ROOT = Path(__file__).parents[2]
HOME = Path("/default/home")

DEFAULTS: dict[str, Any] = {
    "DATABASE_URL": "",
    "DAILY_MAX": 100,
    "MAX_MESSAGES": 5,
    "TIMEZONE": "UTC",
    "WORKER_POLL_INTERVAL": 5000,
    "WORKER_MESSAGE_DELAY": 2000,
    "VISIBILITY_TIMEOUT": 30,
    "MAX_ATTEMPTS": 5,
    "ON_UNKNOWN": "",
    "SCHEDULE_HORIZON_DAYS": 365,
    "SENDER": "console",
    "CONCURRENCY": 10,
    "SMTP_URL": None,
    "MAIL_FROM": "",
    "REPLY_TO": "",
    "POSTAL_ADDRESS": "",
    "PUBLIC_URL": "",
    "UNSUBSCRIBE_MAILTO": "",
    "SECRET_KEY": "",
    "WEBHOOK_URL": "",
    "WEBHOOK_SECRET": "",
    "WEBHOOK_ALLOW": "",
    "DOMAIN_LIMITS": DomainLimits(),
    "HYPERDRIP_ENV": "production",
    "HYPERDRIP_NOW": None,
    "HYPERDRIP_HOME": HOME,
    "ENVELOPE_EMAIL": True,
    "LOG_ADDRESSES": True,
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "text",
    "PGMQ_URL": "",
}

LIMITS = {
    "DAILY_MAX": (1, 1_000_000_000),
    "MAX_MESSAGES": (1, 365),
    "WORKER_POLL_INTERVAL": (10, 86_400_000),
    "WORKER_MESSAGE_DELAY": (0, 86_400_000),
    "VISIBILITY_TIMEOUT": (1, 43_200),
    "MAX_ATTEMPTS": (1, 100),
    "SCHEDULE_HORIZON_DAYS": (1, 730),
    "CONCURRENCY": (1, 1000),
}

PLAIN_TEXT = [
    "SENDER",
    "MAIL_FROM",
    "REPLY_TO",
    "POSTAL_ADDRESS",
    "PUBLIC_URL",
    "UNSUBSCRIBE_MAILTO",
    "SECRET_KEY",
    "WEBHOOK_URL",
    "WEBHOOK_SECRET",
    "WEBHOOK_ALLOW",
    "PGMQ_URL",
]

SWITCH = [
    ("true", True),
    ("false", False),
    ("YES", True),
    ("No", False),
    ("on", True),
    ("off", False),
]
SWITCHES = {"ENVELOPE_EMAIL": [*SWITCH, ("1", True), ("0", False)], "LOG_ADDRESSES": SWITCH}

BUECHER = "xn--bcher-kva.example"

# The first two of each are different from one another.
GOOD: dict[str, list[tuple[str, Any]]] = {
    **{
        name: [(str(low), low), (str(high), high), (" +7 ", 7)]
        for name, (low, high) in LIMITS.items()
    },
    **{name: [("one", "one"), (" two words ", "two words")] for name in PLAIN_TEXT},
    **SWITCHES,
    "WORKER_POLL_INTERVAL": [("10", 10), ("86400000", 86_400_000), ("050", 50)],
    "DATABASE_URL": [
        ("postgresql://u:p@one:5432/db", "postgresql://u:p@one:5432/db"),
        ("postgres://two/db", "postgres://two/db"),
        (
            "postgresql://a:1,b:2/db?target_session_attrs=primary",
            "postgresql://a:1,b:2/db?target_session_attrs=primary",
        ),
        (" host=/tmp dbname=x ", "host=/tmp dbname=x"),
        ("dbname = x", "dbname = x"),
    ],
    "TIMEZONE": [
        ("Europe/Berlin", "Europe/Berlin"),
        (" Asia/Kathmandu ", "Asia/Kathmandu"),
        ("UTC", "UTC"),
    ],
    "ON_UNKNOWN": [("hold", "hold"), (" RESEND ", "resend")],
    "HYPERDRIP_ENV": [("test", "test"), ("staging-2", "staging-2"), ("a", "a")],
    "HYPERDRIP_NOW": [
        ("2024-01-15T09:00:00Z", datetime(2024, 1, 15, 9, tzinfo=UTC)),
        (" 2024-01-15T09:00+02:00 ", datetime(2024, 1, 15, 9, tzinfo=timezone(timedelta(hours=2)))),
        ("1970-01-01T00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2999-12-31T23:59:59Z", datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
    "HYPERDRIP_HOME": [("/one", Path("/one")), (" /two words ", Path("/two words"))],
    "LOG_LEVEL": [("debug", "debug"), ("Warning", "warning"), ("info", "info"), ("error", "error")],
    "LOG_FORMAT": [("json", "json"), ("text", "text")],
    "SMTP_URL": [
        (
            "smtp://ada:p%40ss@mail.example.com",
            SmtpServer("mail.example.com", 587, Security.STARTTLS, "ada", "p@ss"),
        ),
        (" smtps://mail ", SmtpServer("mail", 465, Security.TLS)),
    ],
    "DOMAIN_LIMITS": [
        ("gmail.com=20/m", DomainLimits({"gmail.com": 3.0})),
        (" *=2/s,, B\u00fccher.example = 1/h ,", DomainLimits({"*": 0.5, BUECHER: 3600.0})),
    ],
}

# What the message has to say is allowed, and values that are not.
BAD: dict[str, tuple[str, list[str]]] = {
    **{
        name: (
            f"a whole number from {low} to {high}",
            [
                str(low - 1),
                str(high + 1),
                "-5",
                "1.5",
                "1e3",
                "1_0",
                "ten",
                "0x10",
                "\u0661\u0660",
                "9" * 40,
                "5 6",
            ],
        )
        for name, (low, high) in LIMITS.items()
    },
    **{name: ("true or false", ["maybe", "2", "truefalse", "ja"]) for name in SWITCHES},
    "DATABASE_URL": (
        "postgresql://user:password@host:5432/database",
        [
            "mysql://u:geheim@h/db",
            "geheim",
            "u:geheim@host/db",
            "/geheim",
            "http://geheim",
            "POSTGRES:geheim",
        ],
    ),
    "TIMEZONE": (
        "such as UTC or Europe/Berlin",
        [
            "Europe",
            "Mars/Olympus",
            "europe/berlin ",
            "../UTC",
            "/etc/localtime",
            "+02:00",
            "localtime",
            "posixrules",
            "tzdata.zi",
        ],
    ),
    "ON_UNKNOWN": ("empty, hold, resend", ["drop", "hold,resend"]),
    "HYPERDRIP_ENV": (
        "such as production or test",
        [
            "Test",
            "1st",
            " test",
            "test\n",
            "a b",
            "a" * 32,
            "té",
        ],
    ),
    "HYPERDRIP_NOW": (
        "instant with offset such as 2024-01-15T09:00:00Z",
        [
            "now",
            "2024-01-15",
            "2024-01-15T09:00:00",
            "2024-02-30T09:00:00Z",
            "1705309200",
            "09:00Z",
            "0001-01-01T00:00+14:00",
            "1969-12-31T23:59Z",
            "3000-01-01T00:00Z",
        ],
    ),
    "HYPERDRIP_HOME": ("write a path", ["~no-such-user-here/data"]),
    "LOG_LEVEL": ("debug, info, warning, error", ["trace", "0", "info;"]),
    "LOG_FORMAT": ("text, json", ["xml"]),
    "SMTP_URL": ("smtp://user:password@host:587", ["geheim", "ada:geheim@mail", "http://geheim"]),
    "DOMAIN_LIMITS": (
        "write gmail.com",
        [
            "empty",
            "gmail.com",
            "a.com=0/s",
            "a.com=1/w",
            "a.com=-1/m",
            "a@b.com=1/s",
            "=1/s",
            "a b=1/m",
        ],
    ),
}

READ_FROM_FILES = sorted(set(PARSERS) - {"HYPERDRIP_ENV", "HYPERDRIP_NOW"})


def in_test(**values: str) -> Settings:
    """Settings of a test environment, the only one in which the clock may be moved."""
    return parse({"HYPERDRIP_ENV": "test", **values}, default_home=HOME)


def complaint_about(values: dict[str, str]) -> str | None:
    try:
        parse(values, default_home=HOME)
    except SettingsError as refusal:
        return str(refusal)
    return None


def value_of(settings: Settings, name: str) -> Any:
    return getattr(settings, name.lower())


def test_every_setting_is_tried_here() -> None:
    assert set(DEFAULTS) == set(GOOD) == set(PARSERS)
    assert set(BAD) | set(PLAIN_TEXT) == set(PARSERS)
    assert {field.name.upper() for field in fields(Settings)} == {*PARSERS, "EXPLICIT"}


# Values


@pytest.mark.parametrize("name", PARSERS)
def test_a_setting_that_nobody_set_has_its_default(name: str) -> None:
    settings = parse({}, default_home=HOME)
    assert value_of(settings, name) == DEFAULTS[name]
    assert not settings.is_explicit(name)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [(name, text, value) for name, good in GOOD.items() for text, value in good],
)
def test_a_good_value_is_taken(name: str, text: str, value: Any) -> None:
    settings = in_test(**{name: text})
    assert value_of(settings, name) == value
    assert type(value_of(settings, name)) is type(value) or isinstance(value, Path)
    assert settings.explicit == {"HYPERDRIP_ENV", name}
    assert settings.is_explicit(name)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [(name, text, allowed) for name, (allowed, bad) in BAD.items() for text in bad],
)
def test_a_bad_value_is_refused_by_name_with_what_is_allowed(
    name: str, text: str, allowed: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        in_test(**{name: text})
    message = str(refusal.value)
    assert message.startswith(name)
    assert allowed in message
    assert "\n" not in message
    assert (repr(text) in message) is (name not in ("DATABASE_URL", "SMTP_URL"))
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
def test_an_empty_value_counts_as_not_set(name: str, empty: str) -> None:
    assert parse({name: empty}, default_home=HOME) == parse({}, default_home=HOME)


@given(st.dictionaries(st.sampled_from(sorted(PARSERS)), st.text(max_size=20), max_size=3))
def test_whatever_is_written_is_taken_or_refused_in_one_line(values: dict[str, str]) -> None:
    complaint = complaint_about(values)
    if complaint is not None:
        assert complaint.startswith(tuple(values))
        assert complaint.isprintable()


def test_names_that_are_no_settings_are_ignored() -> None:
    assert parse({"DAILYMAX": "x", "PATH": "/"}, default_home=HOME).explicit == frozenset()


def test_a_home_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert in_test(HYPERDRIP_HOME="~/drip").hyperdrip_home == Path("/home/ada/drip")
    assert in_test(HYPERDRIP_HOME="drip").hyperdrip_home == tmp_path / "drip"


@pytest.mark.parametrize("environment", ["production", "staging", None])
def test_the_clock_moves_only_in_a_test_environment(environment: str | None) -> None:
    values = {"HYPERDRIP_NOW": "2024-01-15T09:00:00Z"}
    if environment:
        values["HYPERDRIP_ENV"] = environment
    with pytest.raises(SettingsError, match=r"HYPERDRIP_NOW .* HYPERDRIP_ENV=test") as refusal:
        parse(values, default_home=HOME)
    assert (environment or "production") in str(refusal.value)
    assert refusal.value.exit_code == 2


# Secrets

PASSWORD = "s3cr3t-Pa55"
WITH_PASSWORD = {
    "DATABASE_URL": f"postgresql://ada:{PASSWORD}@db:5432/drip",
    "SMTP_URL": f"smtp://ada:{PASSWORD}@mail:587",
    "SECRET_KEY": PASSWORD,
    "WEBHOOK_URL": f"https://ada:{PASSWORD}@hooks/in?token={PASSWORD}",
    "WEBHOOK_SECRET": PASSWORD,
    "PGMQ_URL": f"https://ada:{PASSWORD}@rest",
}


def test_settings_show_no_value_when_they_are_printed() -> None:
    settings = in_test(**WITH_PASSWORD)
    assert settings.database_url == WITH_PASSWORD["DATABASE_URL"]
    for text in (repr(settings), str(settings), f"{settings}", f"{[settings]}"):
        assert PASSWORD not in text
        assert "SECRET_KEY" in text


@pytest.mark.parametrize("name", BAD)
def test_a_complaint_about_one_setting_shows_no_secret_of_another(name: str) -> None:
    values = {**WITH_PASSWORD, name: BAD[name][1][0]}
    with pytest.raises(SettingsError) as refusal:
        in_test(**values)
    assert PASSWORD not in str(refusal.value)


@given(st.text(max_size=12), st.text(max_size=12))
def test_a_malformed_database_address_is_not_repeated(before: str, after: str) -> None:
    complaint = complaint_about({"DATABASE_URL": f"{before}{PASSWORD}{after}"})
    assert complaint is None or PASSWORD not in complaint


# Where they come from


@pytest.mark.parametrize("name", READ_FROM_FILES)
def test_an_option_wins_over_the_environment_and_that_over_the_file(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first_text, first), (second_text, second) = GOOD[name][:2]
    assert first != second
    assert value_of(load(), name) != first or DEFAULTS[name] == first

    Path(".env").write_text(f"{name}='{first_text}'\n")
    assert value_of(load(), name) == first
    assert load().explicit == {name}

    monkeypatch.setenv(name, second_text)
    assert value_of(load(), name) == second
    assert value_of(load(overrides={name: first_text}), name) == first

    # What is empty is not set, and leaves what stands below it.
    monkeypatch.setenv(name, " ")
    assert value_of(load(), name) == first


def test_the_environment_of_a_process_is_read_from_the_real_environment_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("HYPERDRIP_ENV=test\nDAILY_MAX=7\n")
    Path("other.env").write_text("HYPERDRIP_ENV=test\nDAILY_MAX=8\n")
    assert (load().hyperdrip_env, load().daily_max) == ("production", 7)
    assert not load().is_explicit("HYPERDRIP_ENV")
    assert load(env_file=Path("other.env")).hyperdrip_env == "production"
    monkeypatch.setenv("HYPERDRIP_ENV", "staging")
    assert (load().hyperdrip_env, load().daily_max) == ("staging", 7)


def test_in_a_test_environment_another_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("DAILY_MAX=7\nMAX_MESSAGES=2\n")
    Path(".env.test").write_text("DAILY_MAX=8\nHYPERDRIP_NOW=2024-01-15T09:00:00Z\n")
    assert load().daily_max == 7
    monkeypatch.setenv("HYPERDRIP_ENV", "test")
    assert (load().daily_max, load().max_messages) == (8, 5)
    assert load().hyperdrip_now == datetime(2024, 1, 15, 9, tzinfo=UTC)


def test_a_file_cannot_move_the_clock_of_production() -> None:
    Path(".env").write_text("HYPERDRIP_ENV=test\nHYPERDRIP_NOW=2024-01-15T09:00:00Z\n")
    with pytest.raises(SettingsError, match="only with HYPERDRIP_ENV=test"):
        load()


@pytest.mark.parametrize("environment", ["production", "test"])
def test_a_file_that_is_named_is_read_in_place_of_the_usual_one(
    environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERDRIP_ENV", environment)
    Path(".env").write_text("MAX_MESSAGES=2\n")
    Path(".env.test").write_text("MAX_MESSAGES=3\n")
    Path("other").write_text("DAILY_MAX=9\n")
    found = load(env_file=Path("other"))
    assert (found.daily_max, found.max_messages) == (9, 5)


def test_without_a_file_there_are_defaults() -> None:
    assert load().explicit == frozenset()
    Path(".env").mkdir()
    assert load().explicit == frozenset()


@pytest.mark.parametrize(
    "name", ["missing", "folder", "not-utf-8", pytest.param("x" * 5000, id="long")]
)
def test_a_file_that_is_named_and_cannot_be_read_is_refused(name: str) -> None:
    Path("folder").mkdir()
    Path("not-utf-8").write_bytes(b"SECRET_KEY=s3cr3t-Pa55\xff\n")
    with pytest.raises(SettingsError, match=r"cannot be read|can be read") as refusal:
        load(env_file=Path(name))
    assert repr(name) in str(refusal.value)
    assert PASSWORD not in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_a_file_is_read_as_people_write_it() -> None:
    Path(".env").write_text(
        "\ufeffDAILY_MAX=7\r\n# MAX_MESSAGES=2\r\nexport SENDER=null\r\n"
        'MAIL_FROM="Ada <ada@example.com>"\r\nPOSTAL_ADDRESS=${HOME} 1\r\nCONCURRENCY\r\n'
        "OTHER=x\r\n",
        newline="",
    )
    found = load()
    assert found.explicit == {"DAILY_MAX", "SENDER", "MAIL_FROM", "POSTAL_ADDRESS"}
    assert (found.daily_max, found.sender) == (7, "null")
    assert found.mail_from == "Ada <ada@example.com>"
    assert found.postal_address == "${HOME} 1"


def test_the_home_is_the_system_s_for_root_and_the_user_s_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load().hyperdrip_home == Path("/var/lib/hyperdrip")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    found = load().hyperdrip_home
    assert found.name == "hyperdrip"
    assert found.is_relative_to("/home/ada")


# The samples

SAMPLES = [".sample.env", ".sample.env.test"]
ENTRY = re.compile(
    r"^(?P<comment>(?:#.*\n)*?)(?P<off># )?(?P<name>[A-Z_]+)=(?P<value>.*)$", re.MULTILINE
)


def entries(sample: str) -> dict[str, re.Match[str]]:
    found = list(ENTRY.finditer((ROOT / sample).read_text()))
    by_name = {match["name"]: match for match in found}
    assert len(by_name) == len(found)
    return by_name


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_names_every_setting(sample: str) -> None:
    elsewhere = {"HYPERDRIP_ENV"}  # which no file can set
    if sample == ".sample.env":
        elsewhere.add("HYPERDRIP_NOW")  # which production refuses
    assert set(entries(sample)) == set(PARSERS) - elsewhere
    assert "HYPERDRIP_ENV" in (ROOT / sample).read_text()


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_works_as_it_is_when_copied(sample: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = "test" if sample.endswith(".test") else "production"
    monkeypatch.setenv("HYPERDRIP_ENV", environment)
    plain = load()
    Path(sample.replace(".sample", "")).write_text((ROOT / sample).read_text())
    copied = load()
    assert copied.explicit > plain.explicit
    for name in PARSERS:
        assert value_of(copied, name) == value_of(plain, name)
    # It names no database and moves no clock: whoever copies it gets what they had.
    assert not copied.explicit & {"DATABASE_URL", "HYPERDRIP_HOME", "HYPERDRIP_NOW"}


@pytest.mark.parametrize(
    ("sample", "name"), [(sample, name) for sample in SAMPLES for name in entries(sample)]
)
def test_a_sample_says_the_true_default_and_what_is_allowed(sample: str, name: str) -> None:
    entry = entries(sample)[name]
    comment = " ".join(entry["comment"].replace("#", " ").split())
    said = re.search(r"Default: (.*)", comment)
    assert said, comment
    if name == "HYPERDRIP_HOME":
        assert said[1] == "the platform's user data folder (as root: /var/lib/hyperdrip)."
    elif DEFAULTS[name] in ("", None, DomainLimits()):
        assert said[1].startswith("empty")
    else:
        assert PARSERS[name](name, said[1].split()[0].rstrip(".,")) == DEFAULTS[name]
    if name in LIMITS:
        low, high = LIMITS[name]
        numbers = re.search(r"Whole number, (\d+)(?: \([^)]*\))? (?:to (\d+)\.|or more)", comment)
        assert numbers, comment
        assert int(numbers[1]) == low
        assert (numbers[2] is None) is (name == "DAILY_MAX")
        assert numbers[2] is None or int(numbers[2]) == high


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_a_sample_shows_as_a_comment_is_good_without_the_mark(sample: str) -> None:
    shown = {name: match["value"] for name, match in entries(sample).items() if match["off"]}
    assert {"DATABASE_URL", "HYPERDRIP_HOME"} <= set(shown)
    assert in_test(**shown).explicit == {*shown, "HYPERDRIP_ENV"}
