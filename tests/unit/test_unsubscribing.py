"""Tokens of unsubscribe links."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.errors import SettingsError
from hyperdrip.unsubscribing import sign, unsubscribe_mailto, unsubscribe_url, verify

OLD, NEW = "o" * 32, "n" * 32


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_a_token_gives_back_its_id_and_can_stand_in_an_address(opaque_id: str) -> None:
    token = sign(NEW, opaque_id)
    assert verify(NEW, token) == opaque_id
    assert all(char.isalnum() or char in "._-" for char in token)
    assert token == sign(NEW, opaque_id)


def test_the_first_key_signs_and_all_verify() -> None:
    old = sign(OLD, "lead_7")
    both = f"{NEW}, {OLD},"
    assert verify(both, old) == "lead_7"
    assert sign(both, "lead_7") == sign(NEW, "lead_7")
    assert verify(OLD, sign(both, "lead_7")) is None
    assert verify(NEW, old) is None


def test_a_link_in_mail_of_long_ago_works_still() -> None:
    token = "lead_7-1-2.te7KepcZfziIK1PAhUWAAbtNAy75aXiy3mgIUs6k7Xc"
    assert sign("0123456789abcdef, fedcba9876543210", "lead_7-1-2") == token


@given(st.text() | st.text(st.characters(codec=None)))
def test_a_token_that_nobody_signed_is_nobodys(token: str) -> None:
    assert verify(NEW, token) is None
    assert verify(NEW, f"lead_8.{sign(NEW, 'lead_7').partition('.')[2]}") is None


@pytest.mark.parametrize("secret_key", ["", " , ", "short", f"{NEW},short"])
def test_without_a_good_key_there_are_no_tokens_and_no_key_is_shown(secret_key: str) -> None:
    for function in (sign, verify):
        with pytest.raises(SettingsError, match="SECRET_KEY") as refusal:
            function(secret_key, "lead_7")
        assert "short" not in str(refusal.value)


@pytest.mark.parametrize("opaque_id", ["", "ada@example.com", "a.b", "x" * 65, "a\n"])
def test_an_id_is_opaque(opaque_id: str) -> None:
    with pytest.raises(ValueError, match="is no id"):
        sign(NEW, opaque_id)


def test_the_ways_out() -> None:
    assert unsubscribe_url("https://x.example/m/", "t.s") == "https://x.example/m/unsubscribe/t.s"
    assert (
        unsubscribe_mailto("mailto:out+now@x.example", "t.s")
        == "mailto:out%2Bnow@x.example?subject=unsubscribe%20t.s"
    )
