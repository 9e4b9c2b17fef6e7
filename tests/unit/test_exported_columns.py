"""What an export writes into cells and headers, and that an import gets it back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.columns import export_header, match, neutralise, restore

OWN = ("id", "status")


@given(st.text(alphabet="'=+-@\t\r1a "))
def test_a_neutralised_cell_is_no_formula_and_can_be_restored(text: str) -> None:
    cell = neutralise(text)
    assert not cell or cell[0] not in "=+-@\t\r"
    assert restore(cell) == text


@pytest.mark.parametrize("text", ["=1+1", "+1 202 555 0143", "-5", "@SUM(A1)", "\tx", "\rx"])
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    assert neutralise(text) == f"'{text}"


names = st.one_of(
    st.sampled_from(
        ["company", "Company", "COMPANY", "email", "Name", "notes", "=cmd", "'=cmd", "field 2: x"]
    ),
    st.sampled_from(["hyperdrip id", "Hyperdrip x", "status", "id", "line", "+1", "reason"]),
    st.text(alphabet="abC'=", min_size=1, max_size=3),
)


@given(st.lists(names, unique=True, max_size=8))
def test_every_field_comes_back_under_its_name_from_the_header_of_an_export(
    field_names: list[str],
) -> None:
    header = export_header(field_names, OWN)
    assert len({name.lower() for name in header}) == len(header)
    columns = match("export.csv", header, {})
    cells = ["Ada", "ada@example.com", "'+1202", "'=n", *field_names, "lead_1", "ACTIVE"]
    assert columns.read(cells) == {
        "name": "Ada",
        "email": "ada@example.com",
        "phone": "+1202",
        "notes": "=n",
    }
    # Each field was given its own name, as a cell that is not neutralised.
    assert columns.read_fields(cells) == {name: restore(name) for name in field_names}


def test_only_the_file_of_an_export_loses_apostrophes() -> None:
    columns = match("other.csv", ["name", "email", "status"], {})
    assert columns.read(["'=x", "a@b.example", "new"])["name"] == "'=x"
    assert columns.read_fields(["'=x", "a@b.example", "new"]) == {"status": "new"}
