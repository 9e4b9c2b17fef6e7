"""Which column of a spreadsheet becomes what of a lead."""

import pytest

from hyperdrip.columns import Columns, match, parse_mapping
from hyperdrip.errors import InvalidDataError, SettingsError

CRM = [
    "Record ID", "First Name", "Last Name", "E-Mail Address", "Mobile Phone", "Phone", "Company",
    "Job Title", "Lead Status", "Lead Source", "Notes", *(f"Custom {n}" for n in range(29)),
]  # fmt: skip


def mapped(header: list[str], *texts: str) -> Columns:
    return match("leads.csv", header, parse_mapping(texts))


def test_names_are_found_in_any_letter_case_and_the_rest_become_fields() -> None:
    columns = mapped(["NAME", "eMail", "Phone", "", "Firma", "notes"])
    cells = ["Ada", "ada@example.com", "123", "lost", "Nord", "n"]
    assert columns.read(cells) == {
        "name": "Ada",
        "email": "ada@example.com",
        "phone": "123",
        "notes": "n",
    }
    assert columns.read_fields(cells) == {"Firma": "Nord"}


def test_the_export_of_a_crm_with_40_columns_is_mapped() -> None:
    assert len(CRM) == 40
    columns = mapped(
        CRM,
        'name="First Name"+"Last Name"',
        "email=e-mail  address",
        "PHONE=Mobile Phone",
        "company=Company",
    )
    cells = [f"v{n}" for n in range(40)]
    cells[2] = "  "
    assert columns.read(cells) == {"name": "v1", "email": "v3", "phone": "v4", "notes": "v10"}
    fields = columns.read_fields(cells)
    assert fields["company"] == "v6"
    assert fields["Phone"] == "v5"  # not the phone: another column is
    assert len(fields) == 40 - 5
    assert columns.describe("name") == ("First Name+Last Name", (1, 2))
    assert columns.describe("company") == ("Company", (6,))
    assert columns.describe("") == ("", ())


def test_a_column_with_a_plus_in_its_name_is_found() -> None:
    columns = mapped(["Name + Title", "email"], "name=Name + Title")
    assert columns.parts["name"] == (0,)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["email"], "map 'email' is not of the form email=\"E-Mail Address\""),
        (["=x"], "is not of the form"),
        (["email= "], "is not of the form"),
        (
            ["name=A", "Name=B"],
            "map 'Name=B' says a second time what 'Name' is; join columns with +",
        ),
    ],
)
def test_a_mapping_that_says_nothing_is_wrong_usage(texts: list[str], reason: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_mapping(texts)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["email=Mail"], "'leads.csv' has no column 'Mail'; it has: Name, Note, A"),
        (["name=A+", "email=A"], "has no column ''"),
        ([], "'leads.csv' has no column 'email'; it has: Name, Note, A; to say which it is: --map"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(texts: list[str], reason: str) -> None:
    with pytest.raises(InvalidDataError) as refusal:
        mapped(["Name", "Note", "", "A"], *texts)
    assert reason in str(refusal.value)


def test_a_column_name_that_is_too_long_for_a_field_is_said_once_with_the_cure() -> None:
    question = "What is the name of the company that you work for, and what does it do?"
    header = ["name", "email", question]
    with pytest.raises(InvalidDataError, match=f'longer than 60.*--map SHORT="{question[:-1]}'):
        mapped(header)
    assert mapped(header, f'company="{question}"').fields == {"company": (2,)}


def test_the_columns_that_an_error_file_adds_are_about_the_row_and_not_of_it() -> None:
    """Also when the file has columns of these names itself."""
    columns = mapped(["name", "email", "Value", "reason", "line", "column", "value", "reason"])
    assert columns.fields == {"Value": (2,), "reason": (3,)}
    with pytest.raises(InvalidDataError, match="no column 'column'"):
        mapped(["name", "email", "line", "column", "value", "reason"], "x=column")
