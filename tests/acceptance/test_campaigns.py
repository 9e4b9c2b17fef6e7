"""`campaigns`: what its commands print, and that mistakes store nothing."""

from pathlib import Path

import psycopg
import pytest

from tests.acceptance.commands import Commands

pytestmark = pytest.mark.usefixtures("within_this_process")

HEAD = 'name = "trial"\nfrom = "Ada <ada@example.com>"\n'
ELIF = ("add-lead", "--name", "Elif Aydin", "--email", "elif@example.com", "--campaign", "trial")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign with two steps."""
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / "campaign.toml").write_text(HEAD)
    write(folder, 1, "Hi {{ first_name }}")
    write(folder, 2, "Bye", delay_days=3)
    return folder


def write(folder: Path, number: int, text: str, *, delay_days: int = 1) -> None:
    head = f"subject: Step {number}\ndelay_days: {delay_days}"
    (folder / f"0{number}-step.md").write_text(f"---\n{head}\n---\n{text}\n")


def count_versions(conn: psycopg.Connection) -> int:
    row = conn.execute("select count(*) from hyperdrip.campaign where name = 'trial'").fetchone()
    assert row is not None
    return int(row[0])


def test_an_edit_is_for_leads_to_come_until_those_under_way_are_moved(
    commands: Commands, conn: psycopg.Connection, folder: Path
) -> None:
    assert commands.run("campaigns", "apply", "trial", "--dry-run").out == (
        "Dry run: would store trial version 1: 2 steps\n"
    )
    assert count_versions(conn) == 0
    assert commands.run("campaigns", "apply", "trial").out == "Stored trial version 1: 2 steps\n"
    same = commands.run("campaigns", "apply", "trial")
    assert same.out == "trial is version 1 already; nothing stored\n"
    commands.run(*ELIF)

    write(folder, 2, "Good bye, {{ name }}", delay_days=3)
    diff = commands.json("campaigns", "diff", "trial")
    assert (diff["campaign"], diff["version"]) == ("trial", 1)
    assert diff["changes"] == [
        {
            "part": "step 2",
            "change": "changed",
            "diff": ["@@ -2,3 +2,3 @@", " delay_days: 3", " ", "-Bye", "+Good bye, {{ name }}"],
        }
    ]
    stored = commands.json("campaigns", "apply", "trial")
    assert stored == {
        "campaign": "trial",
        "version": 2,
        "steps": 2,
        "dryRun": False,
        "stored": True,
        "changes": [{"part": "step 2", "change": "changed"}],
        "underWay": [{"version": 1, "leads": 1}],
        "moved": 0,
        "messages": 0,
        "leftOut": [],
        "failures": [],
        "mistakes": [],
    }
    asked = commands.run("campaigns", "apply", "trial", "--move-active", code=2)
    assert "+Good bye, {{ name }}\n1 lead under way would move to version 2" in asked.err
    [_, listed] = commands.json("campaigns", "list")
    assert (listed["version"], listed["underWay"], listed["onOlderVersions"]) == (2, 1, 1)
    moved = commands.run("campaigns", "apply", "trial", "--move-active", "--yes")
    assert moved.out.endswith("nothing stored; moved 1 lead with 2 messages to come\n")
    assert "version 2" in commands.run("leads", "show", "lead_1").out
    assert count_versions(conn) == 2
    commands.assert_audit_ok()


def test_who_cannot_be_moved_is_not_among_those_that_moving_is_offered_for(
    commands: Commands, folder: Path
) -> None:
    commands.run("campaigns", "apply", "trial")
    commands.run(*ELIF)
    commands.run(*(word.replace("elif", "ada") for word in ELIF), "--max-messages", "1")
    (folder / "02-step.md").unlink()
    said = commands.run("campaigns", "apply", "trial").err
    assert "2 leads under way on version 1: unchanged; --move-active moves 1 of them\n" in said


def test_a_folder_with_mistakes_or_a_lead_that_cannot_be_written_to_stores_nothing(
    commands: Commands, conn: psycopg.Connection, folder: Path
) -> None:
    commands.run("campaigns", "apply", "trial")
    commands.run(*ELIF)
    write(folder, 2, "{{ fields.company }}", delay_days=3)
    refused = commands.json("campaigns", "apply", "trial", "--move-active", "--yes", code=5)
    [failure] = refused.pop("failures")
    assert (failure["lead"], failure["number"]) == ("lead_1", 2)
    assert (refused["stored"], refused["moved"]) == (False, 0)

    write(folder, 1, "{{ nam }}")
    write(folder, 2, "{{ phone }}", delay_days=0)
    ended = commands.run("campaigns", "apply", "trial", code=5)
    assert ended.out == ""
    *mistakes, last = ended.err.splitlines()
    assert [line.split(":")[0] for line in mistakes] == ["01-step.md", "02-step.md"]
    assert last == "error: 2 mistakes in 'trial'; nothing was stored"
    assert commands.json("campaigns", "apply", "trial", code=5) == {"mistakes": mistakes}
    (folder / "campaign.toml").write_text('name = "default"')
    write(folder, 1, "Hi")
    write(folder, 2, "Bye")
    ended = commands.run("campaigns", "apply", "trial", code=5)
    assert ended.err.startswith("error: name='default' is that of the built-in campaign")
    assert count_versions(conn) == 1


def test_preview_writes_both_parts_for_a_lead_or_a_made_up_one(
    commands: Commands, folder: Path
) -> None:
    write(folder, 2, "{{ name }} of {{ fields.company }} in {{ fields['the city'] }}")
    commands.run("campaigns", "apply", "trial")
    commands.run(*ELIF, "--field", "company=A & B", "--field", "the city=Izmir")
    preview = ("campaigns", "preview", "2", "--campaign", "trial")
    assert commands.run(*preview).out == (
        "Subject: Step 2\n\nAda Marlowe of [company] in [the city]\n"
    )
    shown = commands.json(*preview, "--lead", "lead_1", "--html", "out.html")
    assert list(shown) == [
        "campaign", "version", "number", "lead", "subject", "preheader", "text", "html",
    ]  # fmt: skip
    assert shown["text"] == "Elif Aydin of A & B in Izmir\n"
    html = (commands.folder / "out.html").read_text()
    assert html == shown["html"]
    assert "Elif Aydin of A &amp; B in Izmir" in html

    for arguments, code, message in (
        (("9", "--campaign", "trial"), 3, "no step 9 in version 1 of the campaign 'trial'; it has"),
        (("1", "--campaign", "gone"), 3, "no campaign 'gone'; `hyperdrip campaigns list` shows"),
        (("1", "--campaign", "trial", "--lead", "lead_9"), 3, "no lead 'lead_9'"),
        (("1", "--campaign", "trial", "--version-number", "7"), 3, "no version 7 of the campaign"),
        (("x", "--campaign", "trial"), 2, "invalid value for 'STEP': 'x' is no whole number"),
    ):
        ended = commands.run("campaigns", "preview", *arguments, code=code)
        assert ended.err.startswith(f"error: {message}")
        assert ended.err.count("\n") == 1


def test_show_and_stats_as_json(commands: Commands, folder: Path) -> None:
    commands.run("campaigns", "apply", str(folder))
    shown = commands.json("campaigns", "show", "trial")
    assert (shown["from"], shown["endless"], len(shown["steps"])) == (
        "Ada <ada@example.com>", False, 2,
    )  # fmt: skip
    assert shown["steps"][1] == {
        "number": 2,
        "delayDays": 3,
        "subject": "Step 2",
        "preheader": None,
        "markdown": "Bye",
        "text": None,
    }
    assert commands.json("campaigns", "show", "default")["endless"] is True
    assert commands.json("campaigns", "stats")[0] == {
        "campaign": "trial",
        "number": 1,
        "subject": "Step 1",
        "planned": 0,
        "sent": 0,
        "failed": 0,
        "unknown": 0,
        "unsubscribed": 0,
    }
    commands.run(*ELIF, "--max-messages", "3", code=5)
    assert "and on" in commands.run("campaigns", "show", "default").out
