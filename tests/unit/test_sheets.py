"""Reading spreadsheets from somebody else: a nasty real-world set, made here."""

import csv
import io
import os
import random
import sys
import tempfile
import threading
import zipfile
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip import sheets
from hyperdrip.errors import InvalidDataError
from hyperdrip.sheets import open_sheet

PEOPLE = (
    ["Zoë Müller", "zoe@example.com", "+49 30 1234567", "„Grüße“, sagt sie\r\nund winkt"],
    ["Ben; Okafor", "BEN@example.org", "0049 30/7654321", 'a "quoted" note'],
)
HEADER = ["Name", "E-Mail", "Phone", "Notes"]


def written(
    delimiter: str = ",", line_end: str = "\r\n", *, quoting: int = csv.QUOTE_MINIMAL
) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerows([HEADER, *PEOPLE])
    return out.getvalue()


def read(
    content: bytes | str, name: str = "leads.csv", **options: Any
) -> tuple[list[str], list[tuple[int, list[str]]], list[str]]:
    """Header, rows, and what was said of the file."""
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    with open_sheet(name, **options) as sheet:
        return list(sheet.header), [(line, cells) for line, cells in sheet.rows], list(sheet.notes)


def refusal_of(content: bytes | str, name: str = "leads.csv", **options: Any) -> str:
    with pytest.raises(InvalidDataError) as refusal:
        read(content, name, **options)
    assert str(refusal.value).isprintable()
    return str(refusal.value)


def workbook(*sheets: dict[str, object]) -> bytes:
    """An .xlsx file; each sheet is given as cells by their names."""
    book = openpyxl.Workbook()
    for number, cells in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet{number + 1}", number)
        for place, value in cells.items():
            sheet[place] = value
    del book["Sheet"]
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


# What programs write


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        pytest.param(written().encode("utf-8-sig"), [], id="Excel, CSV UTF-8"),
        pytest.param(written().encode(), [], id="Google Sheets"),
        pytest.param(
            written(";").encode("cp1252"),
            ["read as cp1252", "separated by semicolon"],
            id="Excel in German",
        ),
        pytest.param(
            ("sep=;\r\n" + written(";")).encode("cp1252"),
            ["read as cp1252", "separated by semicolon"],
            id="Excel with sep=",
        ),
        pytest.param(
            ('"sep=|"\n' + written("|")).encode("utf-8-sig"), ["separated by bar"], id="quoted sep="
        ),
        pytest.param(
            written("\t").encode("utf-16"),
            ["read as utf-16", "separated by tab"],
            id="Excel, Unicode text",
        ),
        pytest.param(
            b"\xfe\xff" + written("\t").encode("utf-16-be"),
            ["read as utf-16", "separated by tab"],
            id="UTF-16, other end first",
        ),
        pytest.param(written().encode("utf-16-le"), ["read as utf-16-le"], id="UTF-16, no mark"),
        pytest.param(written().encode("utf-16-be"), ["read as utf-16-be"], id="UTF-16-BE, no mark"),
        pytest.param(written().encode("utf-32"), ["read as utf-32"], id="UTF-32"),
        pytest.param(written(quoting=csv.QUOTE_ALL).encode(), [], id="all quoted"),
        pytest.param(
            written(";", "\r", quoting=csv.QUOTE_ALL).encode(),
            ["separated by semicolon"],
            id="old Mac",
        ),
        pytest.param(written(line_end="\n").rstrip("\n").encode(), [], id="no line end at the end"),
        pytest.param(("\r\n,,\r\n \r\n" + written()).encode(), [], id="blank lines before"),
    ],
)
def test_what_programs_write_is_read_the_same(content: bytes, notes: list[str]) -> None:
    header, rows, said = read(content)
    assert header == HEADER
    assert [cells for _, cells in rows] == list(PEOPLE)
    assert said == notes


def test_the_encoding_and_the_delimiter_can_be_said() -> None:
    content = "name;email,first\nŠárka;s@example.cz\n".encode("cp1250")
    header, rows, said = read(content, encoding="cp1250", delimiter=";")
    assert header == ["name", "email,first"]
    assert rows == [(2, ["Šárka", "s@example.cz"])]
    assert said == ["read as cp1250", "separated by semicolon"]


@pytest.mark.parametrize(("codec", "mark"), [("utf-8", "utf-8-sig"), ("utf-16-le", "utf-16")])
def test_a_byte_order_mark_is_read_over_when_the_encoding_is_said(codec: str, mark: str) -> None:
    content = '"name","email"\nAda,ada@example.com\n'.encode(mark)
    assert read(content, encoding=codec)[0] == ["name", "email"]


@pytest.mark.parametrize(
    "encoding", ["klingon", "rot13", "base64", "idna", "undefined", "utf-7", "a\0"]
)
def test_an_encoding_that_no_spreadsheet_has_is_refused(encoding: str) -> None:
    assert refusal_of(written(), encoding=encoding) == (
        f"encoding {encoding!r} is unknown; write one such as utf-8, utf-16 or cp1252"
    )


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r", "\0", "", ",,"])
def test_a_delimiter_that_cannot_be_one_is_refused(delimiter: str) -> None:
    assert "cannot separate cells" in refusal_of(written(), delimiter=delimiter)


def test_a_delimiter_between_quotation_marks_is_none() -> None:
    header, rows, _ = read('"Last, first, middle";"E-\nMail"\n"Marlowe, Ada";ada@example.com\n')
    assert header == ["Last, first, middle", "E- Mail"]
    assert rows == [(3, ["Marlowe, Ada", "ada@example.com"])]


def test_header_names_are_tidied_and_end_with_the_last_one_that_is_there() -> None:
    header, rows, _ = read(" Full\u00a0 Name ,\u00a0Email,,,\nAda,ada@example.com,,\n")
    assert header == ["Full Name", "Email"]
    assert rows == [(2, ["Ada", "ada@example.com"])]


def test_a_short_row_gets_its_empty_cells_and_a_long_one_keeps_what_is_too_much() -> None:
    _, rows, _ = read("a,b,c\n1\n1,2,3,,\n1,2,3,4,\n")
    assert rows == [(2, ["1", "", ""]), (3, ["1", "2", "3"]), (4, ["1", "2", "3", "4"])]


def test_a_last_row_that_is_short_and_does_not_end_is_left_short() -> None:
    whole = "a,b,c\n1,2,3\n"
    assert read(f"{whole}1,2")[1][-1] == (3, ["1", "2"])
    assert read(f"{whole}1,2\n")[1][-1] == (3, ["1", "2", ""])
    # Where rows are short anyway, or it is the only one, nothing can be said.
    assert read(f"{whole}1,2\n1")[1][-1] == (4, ["1", "", ""])
    assert read("a,b,c\n1,2")[1][-1] == (2, ["1", "2", ""])


# Lines


def test_lines_are_counted_as_an_editor_does_also_behind_quoted_line_ends() -> None:
    content = 'a,b\r\n"1\r\n2",x\r\n\r\n"3\n4\r5",y\r\nz,w\r\n'
    assert read(content)[1] == [
        (2, ["1\r\n2", "x"]),
        (5, ["3\n4\r5", "y"]),
        (8, ["z", "w"]),
    ]


def test_characters_that_only_python_takes_for_line_ends_are_none() -> None:
    content = "a,b\nA\u2028B\x0b\x0c\x1c\u0085C,x\nD,y\n"
    assert [line for line, _ in read(content)[1]] == [2, 3]


def rows_of(count: int) -> str:
    return "".join(f'"Lead\n{number}",lead{number}@example.com\n' for number in range(count))


@pytest.mark.parametrize(
    ("tail", "fault"),
    [
        ("A\0da,ada@example.com\n", " has a NUL: it is binary or damaged"),
        ('"Ada" M,a@example.com\n', ": a quotation mark is missing, or there is one too many"),
        ('"Ada,ada@example.com\n', ": a quotation mark is never closed; the file seems cut off"),
        (f'Ada,"{"x" * 10_000_000}"\n', ": a cell has more than 1000000 characters"),
    ],
    ids=["NUL", "closed too early", "cut off", "10 MB"],
)
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_fault_in_the_middle_is_named_by_its_line(codec: str, tail: str, fault: str) -> None:
    content = "name,email\n" + rows_of(3000) + tail + "Z,z@example.com\n" * 3
    refusal = refusal_of(content.encode(codec))
    assert refusal == f"'leads.csv' line 6002{fault}; nothing was taken"


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        (
            ("name,email\r\n" + rows_of(3000)).encode("utf-8-sig") + b"\xff,x\n" + b"a,b\n" * 9999,
            {},
            "line 6002 is not utf-8-sig (invalid start byte)",
        ),
        (
            ("a,b\r" * 700_000).encode() + b"J\xf6rg,x\r" + b"a,b\r" * 9999,
            {"encoding": "utf-8"},
            "line 700001 is not utf-8-sig (invalid start byte)",
        ),
        (
            ("name,email\n" + rows_of(2)).encode("utf-16")[:-1],
            {},
            "line 5 is not utf-16 (truncated data)",
        ),
        (
            "name,email\nA,a\n".encode("utf-16") + b"\x00\xd8" + "B,b\n".encode("utf-16-le"),
            {},
            "line 3 is not utf-16 (illegal UTF-16 surrogate)",
        ),
    ],
    ids=["BOM and a byte that is none", "wrongly said", "cut in the middle", "half a character"],
)
def test_bytes_that_are_no_text_are_named_by_their_line(
    content: bytes, options: dict[str, str], reason: str
) -> None:
    assert refusal_of(content, **options) == f"'leads.csv' {reason}; nothing was taken"


# What is no such file


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\n \r\n,,,\n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x81\x8d" + bytes(range(256)), "is a binary file"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + bytes(range(256)) * 9, "is a binary file"),
        (b"name,email\nJ\x81rg,j@example.com\n", "is neither UTF-8 nor cp1252 text; save it as"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n\0", "line 3 has a NUL"),
        (b"PK\x03\x04 but no workbook", "is no Excel file that can be read"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "is no Excel file that can be read"),
        (b"name,email,Name\n", "has the column 'Name' more than once; rename one of them"),
    ],
)
def test_what_is_no_spreadsheet_is_refused(content: bytes, reason: str) -> None:
    assert reason in refusal_of(content)


def test_a_file_that_cannot_be_opened_is_refused() -> None:
    Path("folder").mkdir()
    for name, reason in {
        "folder": "'folder' is a folder; name a CSV file",
        "": "'' is a folder; name a CSV file",
        "gone.csv": "'gone.csv' cannot be read: No such file or directory",
        "a\0b": "'a\\x00b' cannot be read: ",
    }.items():
        with pytest.raises(InvalidDataError) as refusal, open_sheet(name):
            pass
        assert str(refusal.value).startswith(reason)


def test_an_endless_line_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sheets, "LONGEST_LINE", 1000)
    assert "line 2 has 1000 characters or more" in refusal_of("a,b\n" + "x," * 5000 + "\n")


def test_a_file_that_is_left_half_read_is_closed_without_a_word() -> None:
    Path("leads.csv").write_text(written())
    with open_sheet("leads.csv") as sheet:
        next(sheet.rows)
        assert 0 < sheet.position <= sheet.size


# Standard input, pipes


def test_standard_input_and_pipes_are_read_like_files(monkeypatch: pytest.MonkeyPatch) -> None:
    content = written().encode("cp1252")

    class Given:
        buffer = io.BytesIO(content)

    monkeypatch.setattr(sys, "stdin", Given)
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_bytes, args=[content])
    writer.start()
    for source in ("-", "pipe"):
        with open_sheet(source) as sheet:
            assert [cells for _, cells in sheet.rows] == list(PEOPLE)
            assert sheet.notes == ("read as cp1252",)
    writer.join()
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InvalidDataError, match="standard input is closed"), open_sheet("-"):
        pass


# Excel


def test_a_workbook_is_read_as_a_person_would_have_typed_it() -> None:
    content = workbook(
        {
            "B3": "Name",
            "C3": "Email",
            "D3": "Phone",
            "E3": "Since",
            "F3": "Score",
            "B4": "Ada\nMarlowe",
            "C4": "ada@example.com",
            "D4": 491701234567,
            "E4": date(2024, 1, 15),
            "F4": 1.5,
            "B7": "Ben",
            "C7": "ben@example.com",
            "D7": "0049 170",
            "E7": datetime(2024, 1, 15, 9, 30),  # noqa: DTZ001 - as Excel has it
            "F7": True,
            "C9": " ",
        }
    )
    header, rows, notes = read(content, "leads.xlsx")
    assert header == ["Name", "Email", "Phone", "Since", "Score"]
    assert rows == [
        (4, ["Ada\nMarlowe", "ada@example.com", "491701234567", "2024-01-15", "1.5"]),
        (7, ["Ben", "ben@example.com", "0049 170", "2024-01-15T09:30:00", "true"]),
    ]
    assert notes == []


def test_an_open_document_is_read_as_well() -> None:
    names = {
        name: f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"
        for name in ("office", "table", "text")
    }
    spaces = " ".join(f'xmlns:{name}="{uri}"' for name, uri in names.items())
    cells = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    rows = "".join(
        f"<table:table-row>{''.join(map(cells.format, row))}</table:table-row>"
        for row in (["name", "email"], ["Zoë", "zoe@example.com"])
    )
    content = (
        f'<office:document-content {spaces} office:version="1.2"><office:body>'
        f'<office:spreadsheet><table:table table:name="S">{rows}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
    header, rows_read, _ = read(out.getvalue(), "leads.ods")
    assert (header, rows_read) == (["name", "email"], [(2, ["Zoë", "zoe@example.com"])])


def test_the_first_sheet_that_holds_anything_is_read_and_that_is_said() -> None:
    content = workbook({}, {"A1": "name", "A2": "Ada"}, {"A1": "other"})
    header, rows, notes = read(content, "leads.xlsx")
    assert (header, rows) == (["name"], [(2, ["Ada"])])
    assert notes == ["read from the sheet 'Sheet2' alone; there are 3"]


def test_a_damaged_workbook_is_refused_and_never_a_crash() -> None:
    content = workbook({"A1": "name", "B1": "email", "A2": "Ada", "B2": "ada@example.com"})
    assert refusal_of(workbook({}), "leads.xlsx") == "'leads.xlsx' is empty"
    nul = workbook({"A1": "name", "A2": "a_x0000_b"})
    assert "line 2 has a NUL" in refusal_of(nul, "leads.xlsx")
    for size in range(4, len(content), len(content) // 20):
        assert "is no Excel file that can be read" in refusal_of(content[:size], "leads.xlsx")
    dice = random.Random(1)
    for _ in range(100):
        damaged = bytearray(content)
        for _ in range(dice.randint(1, 20)):
            damaged[dice.randrange(4, len(damaged))] = dice.randrange(256)
        with suppress(InvalidDataError):
            read(bytes(damaged), "leads.xlsx")


# Any table


cells = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0\ufeff"),
    max_size=12,
)


@given(
    table=st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), max_size=8)
    ),
    delimiter=st.sampled_from(",;\t|"),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    codec=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_any_table_is_read_back_with_its_line_numbers(
    table: list[list[str]], delimiter: str, line_end: str, codec: str
) -> None:
    width = len(table[0]) if table else 1
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    header = [f"column {number}" for number in range(width)]
    writer.writerow(header)
    expected = []
    for row in table:
        line = 1 + sheets._count_line_ends(out.getvalue())
        writer.writerow(row)
        if any(cell.strip() for cell in row):
            expected.append((line, row))
    with tempfile.TemporaryDirectory() as folder:
        found = read(out.getvalue().encode(codec), f"{folder}/t.csv", delimiter=delimiter)
    assert found[:2] == (header, expected)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(InvalidDataError):
        read(content, f"{folder}/t.csv")


@pytest.mark.parametrize("cells", [["XFD1048576"], ["XFD2", "A1048576"], ["CV1048576"]])
def test_a_stray_cell_at_the_end_of_a_workbook_refuses_it_in_one_line(
    cells: list[str], tmp_path: Path
) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["name", "email"])
    book.active.append(["Stray", "stray@example.com"])
    for cell in cells:
        book.active[cell] = " "
    book.save(tmp_path / "stray.xlsx")
    with (
        pytest.raises(InvalidDataError, match="too far apart to be read"),
        open_sheet(str(tmp_path / "stray.xlsx")),
    ):
        pass
