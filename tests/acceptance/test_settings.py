"""Where settings come from, and which one counts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.commands import Commands, commands_on

pytestmark = pytest.mark.usefixtures("within_this_process")

ROOT = Path(__file__).parents[2]


def test_the_environment_wins_over_the_file_and_options_win_over_both(commands: Commands) -> None:
    (commands.folder / ".env.test").write_text("WORKER_POLL_INTERVAL=1111\nLOG_FORMAT=json\n")
    drain = ("worker", "--drain")
    assert '"message": "Drip worker started - polling every 1111ms"' in commands.run(*drain).err
    by_environment = commands.run(*drain, WORKER_POLL_INTERVAL=2222, LOG_FORMAT="text")
    assert "Drip worker started - polling every 2222ms\n" in by_environment.err
    by_option = commands.run(
        *drain, "--poll-interval", "3333", WORKER_POLL_INTERVAL=2222, LOG_FORMAT="text"
    )
    assert "Drip worker started - polling every 3333ms\n" in by_option.err
    assert "polling every 1111ms" in commands.run(*drain, WORKER_POLL_INTERVAL="").err


def test_the_file_is_read_from_the_current_folder_only(commands: Commands) -> None:
    inner = commands.folder / "inner"
    inner.mkdir()
    for name in (".env", ".env.test"):
        (commands.folder / name).write_text("DAILY_MAX=wrong\n")
    commands.run("plan", cwd=inner)
    assert "DAILY_MAX='wrong'" in commands.run("plan", code=2).err
    good = inner / "good.env"
    good.write_text("DAILY_MAX=100\n")
    commands.run("plan", "--env-file", str(good))


def test_each_environment_has_its_own_file_and_no_file_chooses_it(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("HYPERDRIP_ENV=test\nDAILY_MAX=1\n")
    (tmp_path / ".env.test").write_text("HYPERDRIP_ENV=production\nDAILY_MAX=2\n")
    test = commands_on(new_database(), tmp_path).within
    assert "DAILY_MAX=2 is set" in test.run("plan").err
    production = commands_on(
        new_database(environment="production"), tmp_path, HYPERDRIP_ENV=None, HYPERDRIP_NOW=None
    )
    assert "DAILY_MAX=1 is set" in production.run("plan").err


@pytest.mark.parametrize(("environment", "name"), [("test", ".env.test"), ("production", ".env")])
def test_the_samples_work_when_copied_as_they_are(
    new_database: Callable[..., str], tmp_path: Path, environment: str, name: str
) -> None:
    shutil.copy(ROOT / f".sample{name}", tmp_path / name)
    dsn = new_database(environment=environment)
    now = "2024-01-15T09:00:00Z" if environment == "test" else None
    commands = commands_on(dsn, tmp_path, HYPERDRIP_ENV=environment, HYPERDRIP_NOW=now)
    assert commands.run("add-lead", "--name", "A", "--email", "a@example.com").err == ""
    assert commands.json("worker", "--drain", "--message-delay", "0")["sent"] == 1


def test_a_worker_stores_another_explicit_daily_max_and_other_commands_only_warn(
    commands: Commands,
) -> None:
    def stored() -> int:
        found: int = commands.json("quota", "today")["dailyMax"]
        return found

    warning = (
        "warning: DAILY_MAX=7 is set and this database's daily maximum is 100, which counts;"
        " to change it: hyperdrip quota set default 7\n"
    )
    for arguments in (
        ["quota", "today"],
        ["plan"],
        ["add-lead", "--name", "A", "--email", "a@b.co"],
    ):
        assert commands.run(*arguments, DAILY_MAX=7).err == warning
    assert commands.run("quota", "today", DAILY_MAX=100).err == ""
    assert stored() == 100

    drain = ("worker", "--drain", "--message-delay", "0")
    changed = "Daily maximum changed from 100 to 7\n"
    refused = commands.run(*drain, "--sender", "pigeon", code=2, DAILY_MAX=7)
    assert changed not in refused.err
    assert stored() == 100
    assert "changed from" not in commands.run(*drain).err
    assert stored() == 100
    assert changed in commands.run(*drain, DAILY_MAX=7).err
    assert stored() == 7
    assert "changed from" not in commands.run(*drain, DAILY_MAX=7).err

    commands.run("quota", "set", "default", "9", DAILY_MAX=7)
    assert stored() == 9


def test_a_lowered_daily_max_moves_what_no_longer_fits(commands: Commands) -> None:
    rows = "".join(f"L{n},l{n}@example.com\n" for n in range(6))
    (commands.folder / "leads.csv").write_text(f"name,email\n{rows}")
    commands.run("import", "leads.csv", "--max-messages", "1")
    drained = commands.json("worker", "--drain", DAILY_MAX=4, WORKER_MESSAGE_DELAY=0)
    assert drained["sent"] == 4
    assert [day["scheduled"] for day in commands.json("plan")] == [0, 2]
    commands.assert_audit_ok()


def test_a_worker_without_a_chosen_sender_does_not_follow_another_one(commands: Commands) -> None:
    commands.run("add-lead", "--name", "A", "--email", "a@example.com")
    drain = ("worker", "--drain", "--message-delay", "0")
    assert commands.run(*drain, SENDER="null").err.count("Sending message") == 0

    tomorrow = {"HYPERDRIP_NOW": "2024-01-16T09:00:00Z"}
    refused = commands.run(*drain, code=2, **tomorrow)
    assert refused.err == (
        "error: this database last sent with 'null' and no sender is chosen now;"
        " say --sender null or --sender console\n"
    )
    assert commands.json("messages", "list", "--state", "sent")[0]["sender"] == "null"
    assert commands.json(*drain, "--sender", "console", **tomorrow)["sent"] == 1
    assert commands.json(*drain, HYPERDRIP_NOW="2024-01-17T09:00:00Z")["sent"] == 1


def test_addresses_stay_out_of_envelopes_and_log_lines_where_that_is_wished(
    commands: Commands,
) -> None:
    commands.settings |= {"ENVELOPE_EMAIL": "false", "LOG_ADDRESSES": "false"}
    commands.run("add-lead", "--name", "A", "--email", "a@example.com", "--max-messages", "1")
    [envelope] = commands.json("queues", "peek")
    assert envelope["message"] == {
        "leadId": "lead_1",
        "messageNumber": 1,
        "scheduledDate": "2024-01-15",
    }
    drained = commands.run("worker", "--drain", "--message-delay", "0")
    assert drained.err.splitlines()[-2:] == [
        "Sending message #1 to lead_1 (scheduled for 2024-01-15)",
        "Lead lead_1 completed drip campaign (1/1 messages)",
    ]


def test_json_log_lines_say_the_same(commands: Commands) -> None:
    commands.run("add-lead", "--name", "A", "--email", "a@example.com", "--max-messages", "1")
    drained = commands.run("worker", "--drain", "--message-delay", "0", LOG_FORMAT="json")
    lines = [json.loads(line) for line in drained.err.splitlines()]
    assert {tuple(line) for line in lines} == {("time", "level", "message")}
    assert {line["level"] for line in lines} == {"info"}
    assert [line["message"] for line in lines] == [
        "Starting drip worker...",
        "The console sender delivers nothing and marks messages as sent",
        "Drip worker started - polling every 5000ms",
        "1 due",
        "Sending message #1 to a@example.com (scheduled for 2024-01-15)",
        "Lead a@example.com completed drip campaign (1/1 messages)",
    ]
