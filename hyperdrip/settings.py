"""The only reader of the environment: every setting is parsed and checked here, once.

Order of precedence: command-line option, environment, `.env` in the current folder.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from hyperdrip.domain_limits import DomainLimits, parse_domain_limits
from hyperdrip.errors import SettingsError

if TYPE_CHECKING:
    from hyperdrip.smtp_url import SmtpServer

ROOT_HOME = Path("/var/lib/hyperdrip")


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults. `explicit` names those that somebody set."""

    database_url: str = ""
    daily_max: int = 100
    max_messages: int = 5
    timezone: str = "UTC"
    worker_poll_interval: int = 5000
    worker_message_delay: int = 2000
    visibility_timeout: int = 30
    max_attempts: int = 5
    on_unknown: str = ""
    schedule_horizon_days: int = 365
    sender: str = "console"
    concurrency: int = 10
    smtp_url: "SmtpServer | None" = field(default=None, repr=False)
    mail_from: str = ""
    reply_to: str = ""
    postal_address: str = ""
    public_url: str = ""
    unsubscribe_mailto: str = ""
    secret_key: str = field(default="", repr=False)
    webhook_url: str = field(default="", repr=False)
    webhook_secret: str = field(default="", repr=False)
    webhook_allow: str = ""
    domain_limits: DomainLimits = field(default_factory=DomainLimits)
    hyperdrip_env: str = "production"
    hyperdrip_now: datetime | None = None
    hyperdrip_home: Path = Path()
    envelope_email: bool = True
    log_addresses: bool = True
    log_level: str = "info"
    log_format: str = "text"
    pgmq_url: str = ""
    explicit: frozenset[str] = frozenset()

    def is_explicit(self, name: str) -> bool:
        """Say whether somebody set this, by environment, file or option."""
        return name in self.explicit

    def __repr__(self) -> str:
        """Show which settings are set, and no value: a DSN may hold a password."""
        return f"Settings(explicit={sorted(self.explicit)})"


def _text(_name: str, value: str) -> str:
    return value.strip()


def _whole_number(low: int, high: int) -> Callable[[str, str], int]:
    def parse(name: str, value: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", value.strip()) or not low <= int(value) <= high:
            raise SettingsError(f"{name}={value!r} is not a whole number from {low} to {high}")
        return int(value)

    return parse


def _one_of(*allowed: str) -> Callable[[str, str], str]:
    def parse(name: str, value: str) -> str:
        if value.strip().lower() not in allowed:
            choices = ", ".join(choice or "empty" for choice in allowed)
            raise SettingsError(f"{name}={value!r} is not one of: {choices}")
        return value.strip().lower()

    return parse


def _switch(name: str, value: str) -> bool:
    word = value.strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise SettingsError(f"{name}={value!r} is not true or false")


def _zone(name: str, value: str) -> str:
    zone = value.strip()
    try:
        if zone in ("localtime", "posixrules"):
            raise LookupError("another zone on every host")
        ZoneInfo(zone)
    except (ValueError, OSError, LookupError):
        raise SettingsError(
            f"{name}={value!r} is no time zone name; write one such as UTC or Europe/Berlin"
        ) from None
    return zone


def _environment(name: str, value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", value):
        raise SettingsError(
            f"{name}={value!r} is not a short lower-case word such as production or test"
        )
    return value


def _instant(name: str, value: str) -> datetime:
    try:
        instant = datetime.fromisoformat(value.strip())
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None or not 1970 <= instant.year <= 2999:
        raise SettingsError(
            f"{name}={value!r} is no instant with offset such as 2024-01-15T09:00:00Z,"
            " from 1970 to 2999"
        )
    return instant


def _folder(name: str, value: str) -> Path:
    try:
        return Path(value.strip()).expanduser().absolute()
    except RuntimeError:
        raise SettingsError(
            f"{name}={value!r} is no folder: there is no user of that name; write a path"
        ) from None


def _database_url(name: str, value: str) -> str:
    url = value.strip()
    if not url.startswith(("postgresql://", "postgres://")) and not re.match(r"\w+ *=", url):
        raise SettingsError(
            f"{name} is no PostgreSQL address; write postgresql://user:password@host:5432/database"
        )
    return url


def _smtp_server(name: str, value: str) -> "SmtpServer":
    from hyperdrip.smtp_url import parse_smtp_url  # late: most commands send nothing

    return parse_smtp_url(name, value)


_DAY_IN_MS = 86_400_000

PARSERS: Mapping[str, Callable[[str, str], Any]] = {
    "DATABASE_URL": _database_url,
    "DAILY_MAX": _whole_number(1, 1_000_000_000),
    "MAX_MESSAGES": _whole_number(1, 365),
    "TIMEZONE": _zone,
    "WORKER_POLL_INTERVAL": _whole_number(10, _DAY_IN_MS),
    "WORKER_MESSAGE_DELAY": _whole_number(0, _DAY_IN_MS),
    "VISIBILITY_TIMEOUT": _whole_number(1, 43_200),
    "MAX_ATTEMPTS": _whole_number(1, 100),
    "ON_UNKNOWN": _one_of("", "hold", "resend"),
    "SCHEDULE_HORIZON_DAYS": _whole_number(1, 730),
    "SENDER": _text,
    "CONCURRENCY": _whole_number(1, 1000),
    "SMTP_URL": _smtp_server,
    "MAIL_FROM": _text,
    "REPLY_TO": _text,
    "POSTAL_ADDRESS": _text,
    "PUBLIC_URL": _text,
    "UNSUBSCRIBE_MAILTO": _text,
    "SECRET_KEY": _text,
    "WEBHOOK_URL": _text,
    "WEBHOOK_SECRET": _text,
    "WEBHOOK_ALLOW": _text,
    "DOMAIN_LIMITS": parse_domain_limits,
    "HYPERDRIP_ENV": _environment,
    "HYPERDRIP_NOW": _instant,
    "HYPERDRIP_HOME": _folder,
    "ENVELOPE_EMAIL": _switch,
    "LOG_ADDRESSES": _switch,
    "LOG_LEVEL": _one_of("debug", "info", "warning", "error"),
    "LOG_FORMAT": _one_of("text", "json"),
    "PGMQ_URL": _text,
}


def parse(values: Mapping[str, str], *, default_home: Path) -> Settings:
    """Check `values` (name -> text as written) and return the settings.

    An empty text counts as not set. Names that are no settings are ignored.

    Raises: SettingsError naming the setting, the value and what is allowed.
    """
    given = {name: values[name] for name in PARSERS if values.get(name, "").strip()}
    parsed = {name.lower(): PARSERS[name](name, text) for name, text in given.items()}
    parsed.setdefault("hyperdrip_home", default_home)
    settings = Settings(**parsed, explicit=frozenset(given))
    if settings.hyperdrip_now is not None and settings.hyperdrip_env != "test":
        raise SettingsError(
            "HYPERDRIP_NOW moves the clock and works only with HYPERDRIP_ENV=test;"
            f" the environment is {settings.hyperdrip_env}"
        )
    return settings


def load(*, env_file: Path | None = None, overrides: Mapping[str, str] | None = None) -> Settings:
    """Read the environment and `.env` (`.env.test` when testing), and return the settings.

    `env_file` replaces `.env`; `overrides` are command-line options, by setting name.

    Raises: SettingsError.
    """
    environment = os.environ.get("HYPERDRIP_ENV", "").strip() or "production"
    default_name = ".env.test" if environment == "test" else ".env"
    values = _read_env_file(env_file or Path(default_name), is_required=env_file is not None)
    values.pop("HYPERDRIP_ENV", None)
    values.update({name: os.environ[name] for name in PARSERS if os.environ.get(name, "").strip()})
    values.update(overrides or {})
    return parse(values, default_home=_default_home())


def _read_env_file(path: Path, *, is_required: bool) -> dict[str, str]:
    try:
        if not path.exists() or path.is_dir():
            if is_required:
                raise SettingsError(f"--env-file {str(path)!r} is no file that can be read")
            return {}
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {str(path)!r} cannot be read: {error}") from None
    if not text.strip():
        return {}
    from dotenv import dotenv_values

    found = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in found.items() if value is not None}


def _default_home() -> Path:
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return ROOT_HOME
    from platformdirs import user_data_path

    return user_data_path("hyperdrip", appauthor=False)
