"""What a lead may hold."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.errors import InvalidDataError
from hyperdrip.lead_values import check_new_lead, parse_key, phone_key
from hyperdrip.models import NewLead

MIGRATION = Path(__file__).parents[2] / "sql" / "migrations" / "0012_phone_index.sql"


def check(**changes: Any) -> NewLead:
    return check_new_lead(**{"name": "Ada Marlowe", "email": "ada@example.com", **changes})


def refusal_of(**changes: Any) -> str:
    with pytest.raises(InvalidDataError) as refusal:
        check(**changes)
    assert refusal.value.exit_code == 5
    message = str(refusal.value)
    assert_one_short_line(message)
    return message


def assert_one_short_line(message: str) -> None:
    assert len(message) < 400
    assert message.isprintable()


def test_what_is_good_is_kept_as_it_was_written() -> None:
    found = check(
        name="Zoë O'Neill 🦊",
        email="Zoe.ONeill+drip@example.com",
        phone="+1 (202) 555-0143",
        notes="met at the fair\r\n\tcall back",
        fields={"Company": "Acme, Inc.", "größe": "10 <b>"},
    )
    assert found == NewLead(
        name="Zoë O'Neill 🦊",
        email="Zoe.ONeill+drip@example.com",
        phone="+1 (202) 555-0143",
        notes="met at the fair\r\n\tcall back",
        fields={"Company": "Acme, Inc.", "größe": "10 <b>"},
    )


def test_blanks_around_a_value_go_and_empty_values_are_none() -> None:
    found = check(
        name="\u00a0 Ada\u00a0Marlowe \n",
        email="\tada@example.com\u00a0",
        phone=" ",
        notes="\n \n",
        fields={" city ": " Paris\n"},
    )
    assert found == NewLead("Ada Marlowe", "ada@example.com", None, None, {"city": "Paris"})
    assert check(phone=None, notes=None, fields=None) == check()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ""}, "name is empty"),
        ({"name": " \u00a0\t"}, "name is empty"),
        ({"name": "x" * 201}, "name has 201 characters; at most 200"),
        ({"name": "Ada\r\nBcc: eve@example.com"}, r"name='Ada\r\nBcc: eve@example.com'"),
        ({"email": ""}, "email=''"),
        ({"email": "ada"}, "email='ada' is no e-mail address"),
        ({"email": "ada@localhost"}, "email='ada@localhost'"),
        ({"email": "Ada <ada@example.com>"}, "email='Ada <ada@example.com>'"),
        ({"email": "ada@example.com,eve@example.com"}, "is no e-mail address"),
        ({"email": "ada@example.com\r\nBcc: eve@example.com"}, r"email='ada@example.com\r\nBcc"),
        ({"email": "a" * 2_000_000 + "@example.com"}, "longer than an address can be"),
        ({"phone": "call me"}, "phone='call me' is no phone number"),
        ({"phone": "12"}, "phone='12'"),
        ({"phone": "1" * 21}, "is no phone number"),
        ({"phone": "1+202 555"}, "phone='1+202 555'"),
        ({"phone": "+1 202\r\n555"}, r"phone='+1 202\r\n555'"),
        ({"phone": "\u0661\u0662\u0663\u0664"}, "is no phone number"),
        ({"phone": "1" + " " * 40 + "23"}, "phone has 43 characters; at most 40"),
        ({"notes": "n" * 10_001}, "notes have 10001 characters; at most 10000"),
        ({"notes": "n" * 2_000_000}, "notes have 2000000 characters"),
        ({"notes": "\x1b[31mred"}, "notes have control characters"),
        ({"fields": {"": "x"}}, "field name ''"),
        ({"fields": {" ": "x"}}, "field name ''"),
        ({"fields": {"k" * 61: "x"}}, "longer than 60 characters"),
        ({"fields": {"a\nb": "x"}}, r"field name 'a\nb'"),
        ({"fields": {"city": "x" * 2_001}}, "field 'city' has 2001 characters; at most 2000"),
        ({"fields": {"city": "\x1b[31m"}}, "field 'city' has control characters"),
    ],
)
def test_what_is_bad_is_refused_by_name_with_the_reason(
    changes: dict[str, Any], reason: str
) -> None:
    assert reason in refusal_of(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x" * 200},
        {"notes": "n" * 10_000},
        {"phone": "123"},
        {"phone": "1" * 20},
        {"phone": "0049/30-12.34"},
        {"fields": {"k" * 60: "x" * 2_000}},
        {"email": "a" * 64 + "@example.com"},
        {"email": "ada@subdomain.example.test"},
        {"email": "ada@bücher.example"},
    ],
)
def test_what_just_fits_is_taken(changes: dict[str, Any]) -> None:
    found = check(**changes)
    assert {name: getattr(found, name) for name in changes} == changes


def test_the_domain_of_an_address_is_written_in_one_way_and_the_rest_is_left() -> None:
    assert check(email="Ada@EXAMPLE.Com").email == "Ada@example.com"
    assert check(email="ada@xn--bcher-kva.example").email == "ada@bücher.example"


# A lone surrogate is what a command's argument that is no UTF-8 becomes; no database takes it.
@pytest.mark.parametrize("char", ["\x00", "\x07", "\x1b", "\x7f", "\x85", "\u2028", "\udcff"])
@pytest.mark.parametrize("where", ["name", "email", "phone", "notes", "field", "field name"])
def test_no_value_may_hold_a_control_character(where: str, char: str) -> None:
    good = {"name": "Ada", "email": "ada@example.com", "phone": "12345", "notes": "hello"}
    if where == "field":
        refusal_of(fields={"city": f"Pa{char}ris"})
    elif where == "field name":
        refusal_of(fields={f"ci{char}ty": "Paris"})
    else:
        text = good[where]
        refusal_of(**{where: f"{text[:2]}{char}{text[2:]}"})


texts = st.text(max_size=60) | st.text(alphabet=st.characters(codec=None), max_size=10)


@given(
    name=texts,
    email=st.emails() | texts,
    phone=st.none() | texts | st.from_regex(r"\+?[0-9 ()./-]{1,30}", fullmatch=True),
    notes=st.none() | texts,
    fields=st.dictionaries(texts, texts, max_size=3),
)
def test_whatever_is_typed_is_refused_in_a_line_or_fits_the_database(**typed: Any) -> None:
    try:
        found = check_new_lead(**typed)
    except InvalidDataError as refusal:
        assert_one_short_line(str(refusal))
        return
    fields = [text for pair in found.fields.items() for text in pair]
    for text in (found.name, found.email, found.phone, found.notes, *fields):
        assert "\x00" not in (text or "")
        (text or "").encode()  # no lone surrogates
    for text in (found.name, found.email, found.phone):
        assert text is None or not re.search(r"[\r\n]", text)
    # What was normalised once stays as it is.
    assert check_new_lead(**asdict(found)) == found


# Phones


def table_rule(phone: str) -> str:
    """The function `phone_key` of the database, read from the migration and worked out here."""
    rule = re.search(
        r"select regexp_replace\(regexp_replace\(\$1,"
        r" '(?P<drop>[^']*)', '(?P<by>[^']*)', 'g'\), '(?P<first>[^']*)', '(?P<then>[^']*)'\)",
        MIGRATION.read_text(),
    )
    assert rule
    kept = re.sub(rule["drop"], rule["by"], phone)
    return re.sub(rule["first"], rule["then"], kept, count=1)


@given(st.text(alphabet="0012345+ ()-./\n\u0660", max_size=20) | st.text())
def test_phones_are_compared_as_the_table_compares_them(phone: str) -> None:
    assert phone_key(phone) == table_rule(phone)


def test_one_number_has_one_key_however_it_is_written() -> None:
    written = ["+49 30 1234567", "0049-30-1234567", "+49 (30) 123.45.67", "00 49/30/1234567"]
    assert {phone_key(check(phone=phone).phone) for phone in written} == {"+49301234567"}
    assert phone_key("030 1234567") == "0301234567"
    assert phone_key("30 00 12") == "300012"
    assert phone_key(None) is None


# LEAD arguments


@given(st.integers(0, 10**18 - 1))
def test_a_lead_is_named_by_its_number_with_or_without_the_word(number: int) -> None:
    assert parse_key(f"lead_{number}") == parse_key(f" {number}\n") == (number, None)


@pytest.mark.parametrize(
    "text", ["ada@example.com", "lead_", "lead_1x", "-1", "1.5", "Lead_1", "1" * 19, "lead_\u0663"]
)
def test_anything_else_is_an_address(text: str) -> None:
    assert parse_key(f" {text} ") == (None, text)
