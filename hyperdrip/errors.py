"""Every error that Hyperdrip raises on purpose, and the exit code of each.

HyperdripError                1   something failed
├── SettingsError             2   wrong usage, settings, or environment
│   └── MissingSettingsError  2   settings that have to be set, a line each
├── NotFoundError             3   no such lead, campaign, message or queue
├── ConflictError             4   it exists already, or somebody holds it
├── InvalidDataError          5   a value that cannot be taken
│   ├── NoRoomError           5   the plan does not fit before the horizon
│   ├── CampaignError         5   mistakes in a campaign's files, a line each
│   └── RenderError           5   a message that cannot be written for this lead
├── DatabaseError             6   the database cannot be used
│   ├── DatabaseUnavailable   6   not reachable, or the connection was lost
│   ├── FencedError           6   a copy of another database, which must not send
│   └── NotMigratedError      6   no schema yet, or one of another version
└── AuditFailed               7   `audit` found a broken invariant

A message is one line: what happened, with which value, and what to do about it. It never holds
a password. Only CampaignError and MissingSettingsError have a line for each of many mistakes.
"""


class HyperdripError(Exception):
    """Something failed that the user can read about in one line."""

    exit_code = 1


class SettingsError(HyperdripError):
    """A setting, an option or the environment is wrong."""

    exit_code = 2


class MissingSettingsError(SettingsError):
    """Settings that have to be set are not: a line for each."""

    @property
    def mistakes(self) -> list[str]:
        """The lines of the message."""
        return str(self).split("\n")


class NotFoundError(HyperdripError):
    """There is no such lead, campaign, message or queue."""

    exit_code = 3


class ConflictError(HyperdripError):
    """The thing exists already, or another process holds it."""

    exit_code = 4


class InvalidDataError(HyperdripError):
    """A value cannot be taken: a bad address, a start in the past, a broken file.

    `column` names the value among others, when it is one of a lead's: `email`, `phone`, ...
    """

    exit_code = 5

    def __init__(self, message: str, *, column: str = "") -> None:
        """`message`: one line."""
        super().__init__(message)
        self.column = column


class NoRoomError(InvalidDataError):
    """A plan would reach past the horizon; nothing was written."""


class CampaignError(InvalidDataError):
    """A campaign cannot be used: a line for each mistake, with the file and what to do."""

    @property
    def mistakes(self) -> list[str]:
        """The lines of the message."""
        return str(self).split("\n")


class RenderError(InvalidDataError):
    """A message cannot be written for this lead: pause the lead, the next one may be fine.

    `missing`: the name of the value that the lead does not have, such as `fields.company`; empty
    when something else is wrong.
    """

    def __init__(self, message: str, *, missing: str = "") -> None:
        """`message`: one line."""
        super().__init__(message)
        self.missing = missing


class DatabaseError(HyperdripError):
    """The database cannot be used as it is."""

    exit_code = 6


class DatabaseUnavailable(DatabaseError):
    """The server cannot be reached, or the connection was lost."""


class FencedError(DatabaseError):
    """The database is a copy: its original may be sending to the same people."""


class NotMigratedError(DatabaseError):
    """The database has no Hyperdrip schema, or one of another version."""


class AuditFailed(HyperdripError):
    """The tables contradict each other."""

    exit_code = 7
