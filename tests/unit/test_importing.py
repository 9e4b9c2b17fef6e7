"""Reading a CSV file of leads."""

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.errors import InvalidDataError
from hyperdrip.importing import read_csv
from hyperdrip.leads import check_new_lead
from hyperdrip.models import NewLead


def read(content: str | bytes, path: Path = Path("leads.csv")) -> list[tuple[int, NewLead | str]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_csv(path))


def refusal_of(content: str | bytes) -> str:
    with pytest.raises(InvalidDataError) as refusal:
        read(content)
    assert refusal.value.exit_code == 5
    assert str(refusal.value).isprintable()
    assert "'leads.csv'" in str(refusal.value)
    return str(refusal.value)


def test_a_row_becomes_a_lead_and_other_columns_become_fields() -> None:
    found = read(
        "\ufeffE-Mail Source, Name ,EMAIL,phone,Notes,City\r\n"
        'fair,Ada Marlowe,ada@example.com,+1 202 555 0143,"says ""hello"", twice",Paris\r\n'
        "\r\n"
        "web,Ben Okri,ben@example.com,,,\r\n"
    )
    assert found == [
        (
            2,
            NewLead(
                "Ada Marlowe",
                "ada@example.com",
                "+1 202 555 0143",
                'says "hello", twice',
                {"E-Mail Source": "fair", "City": "Paris"},
            ),
        ),
        (4, NewLead("Ben Okri", "ben@example.com", None, None, {"E-Mail Source": "web"})),
    ]


def test_name_and_email_are_enough() -> None:
    assert read("email,name\nada@example.com,Ada") == [(2, NewLead("Ada", "ada@example.com"))]


@pytest.mark.parametrize("content", ["name,email\n", "name,email", "name,email\n\n , \n"])
def test_a_file_without_rows_has_no_leads(content: str) -> None:
    assert read(content) == []


def test_a_row_that_cannot_be_taken_is_named_by_its_line_and_the_others_are_read() -> None:
    found = read(
        "name,email,phone\n"
        "Ada,ada@example.com,\n"
        "Ben,not an address,\n"
        "Cyd,cyd@example.com\n"
        "Dan,dan@example.com,,x\n"
        '"Eve\nEx",eve@example.com,\n'
        ",fay@example.com,\n"
        "Gus,gus@example.com,12\n"
        "Hal,hal\x00@example.com,\n"
        "Ida,ida@example.com,\n"
    )
    lines = [line for line, _ in found]
    assert lines == [2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert [row.email for _, row in found if isinstance(row, NewLead)] == [
        "ada@example.com",
        "ida@example.com",
    ]
    reasons = [row for _, row in found if isinstance(row, str)]
    for reason, expected in zip(
        reasons,
        [
            "email='not an address' is no e-mail address",
            "2 cells where the header has 3",
            "4 cells where the header has 3",
            r"name='Eve\nEx' has control characters or a line break",
            "name is empty",
            "phone='12' is no phone number",
            r"email='hal\x00@example.com'",
        ],
        strict=True,
    ):
        assert reason.startswith(expected)
        assert reason.isprintable()


def test_a_note_that_is_too_long_is_rejected_with_its_row() -> None:
    found = read(f"name,email,notes\nAda,ada@example.com,{'n' * 100_000}\n")
    assert found == [(2, "notes have 100000 characters; at most 10000 fit")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "has no column 'name'; it has: nothing"),
        ("\n", "has no column 'name'; it has: nothing"),
        ("email,phone\nada@example.com,\n", "has no column 'name'; it has: email, phone"),
        ("name;email\nAda;ada@example.com\n", "has no column 'name'; it has: name;email"),
        ("name,mail\n", "has no column 'email'; it has: name, mail"),
        ("name,email,Email\n", "has the column 'email' more than once"),
        ('name,email\nAda,a@example.com\n"Ben,b@example.com\n', "line 3: unexpected end of data"),
        ('name,email\n"Ada" x,ada@example.com\n', "line 2: ',' expected after '\"'"),
        (f"name,email,notes\nAda,ada@example.com,{'n' * 2_000_000}\n", "line 2: field larger"),
        (b"name,email\nJos\xe9,jose@example.com\n", "is no UTF-8 text"),
        ("name,email\n".encode("utf-16"), "is no UTF-8 text"),
        (b"name,email\n" + b"Ada,ada@example.com\n" * 50_000 + b"\xff", "is no UTF-8 text"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_a_file_that_is_no_csv_of_leads_is_refused(content: str | bytes, reason: str) -> None:
    assert reason in refusal_of(content)


def test_a_file_that_cannot_be_opened_is_refused() -> None:
    with pytest.raises(InvalidDataError, match=r"'missing\.csv' cannot be read: No such file"):
        list(read_csv(Path("missing.csv")))
    Path("folder").mkdir()
    with pytest.raises(InvalidDataError, match="'folder' is a folder"):
        list(read_csv(Path("folder")))


printable = st.characters(codec="utf-8", exclude_categories=["C", "Z"])
words = st.text(printable | st.sampled_from(",\";' "), min_size=1, max_size=20).filter(str.strip)
notes = st.text(printable | st.sampled_from(',"\n\r\t '), max_size=30)


@given(st.lists(st.tuples(words, notes, words), max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_what_a_spreadsheet_writes_is_read_back(
    rows: list[tuple[str, str, str]], line_end: str
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(["Name", "Email", "Notes", "Company, or so"])
    addresses = [f"lead{number}@example.com" for number, _ in enumerate(rows)]
    for address, (name, note, company) in zip(addresses, rows, strict=True):
        writer.writerow([name, address, note, company])
    with tempfile.TemporaryDirectory() as folder:
        found = read(out.getvalue(), Path(folder) / "leads.csv")
    assert [lead for _, lead in found] == [
        check_new_lead(name=name, email=address, notes=note, fields={"Company, or so": company})
        for address, (name, note, company) in zip(addresses, rows, strict=True)
    ]
