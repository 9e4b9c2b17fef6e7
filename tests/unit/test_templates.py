"""What templates give: the same whether values are a part of them or looked up."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperdrip.errors import RenderError
from hyperdrip.models import Campaign, Recipient, Step
from hyperdrip.rendering import compile_campaign
from hyperdrip.template_values import Names
from hyperdrip.templates import HREF, URL_PART, compile_template, find_mistakes

CONSTANTS: dict[str, Any] = {
    "product": "Tally & <Book>",
    "url": "https://u.example/a b",
    "price": 19,
    "share": 0.5,
    "is_new": True,
    "talks": ["x", "<y>"],
    "more": Names("more", {"a": "<b>"}),
}
VALUES = {**CONSTANTS, "first_name": "Ada <&", "fields": Names("fields", {"q": "Q"})}
NAMES = [*VALUES, "missing", "fields.q", "fields.z", "more.a", "product.x", "url[0]", "talks[1]"]
EXPRESSIONS = [
    *NAMES,
    *(f"{name} | {how}" for name in NAMES for how in ("upper", "default('d')", "length")),
    *(f"{name} | {how}" for name in NAMES for how in (HREF, URL_PART, "join", "int")),
    "price * 2", "price / 0", "product ~ '!'", "product * 2", "first_name ~ product", "'%s' % url",
    "product | replace('o', '0')", "(product if is_new else first_name)", "price > 18 and share",
    "product is defined", "missing is defined", "-price", "-product", "[product, price]",
]  # fmt: skip
PIECES = [
    *(f"{{{{ {expression} }}}}" for expression in EXPRESSIONS),
    *(f"{{% if {expression} %}}" for expression in EXPRESSIONS),
    *(f"{{% set {name} = {other} %}}" for name in ("product", "x") for other in NAMES[:6]),
    *(f"{{% for {name} in {of} %}}" for name in ("product", "x") for of in NAMES),
    "{% else %}", "{% endif %}", "{% endfor %}", "text & <b>\n",
]  # fmt: skip


def given_by(source: str, constants: dict[str, Any] | None, *, is_html: bool) -> str:
    try:
        return compile_template(source, constants, is_html=is_html)(dict(VALUES))
    except RenderError as error:
        return f"{error.missing}: {error}"


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.booleans())
@example("{% if is_new %}{% set product = 1 %}{% endif %}{{ product }}", False)
@example("{% for product in talks %}{{ product }}{% endfor %}{{ product }}", True)
@example("{{ product.x }}", True)
def test_a_template_gives_the_same_with_its_constants_written_into_it(
    source: str, is_html: bool
) -> None:
    if find_mistakes(source, VALUES):
        return
    plain = given_by(source, None, is_html=is_html)
    assert given_by(source, CONSTANTS, is_html=is_html) == plain


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("is_html", [True, False])
def test_an_expression_gives_the_same_with_its_constants_written_into_it(
    expression: str, *, is_html: bool
) -> None:
    for source in (f"{{{{ {expression} }}}}", f"{{% if {expression} %}}a{{% endif %}}"):
        plain = given_by(source, None, is_html=is_html)
        assert given_by(source, CONSTANTS, is_html=is_html) == plain


def test_what_is_the_same_for_everybody_is_not_looked_up_for_each_message() -> None:
    template = compile_template("{{ product }} ({{ url | _href }}) for {{ name }}", CONSTANTS)
    assert template({"name": "Ada"}) == "Tally & <Book> (https://u.example/a%20b) for Ada"


def test_a_lead_s_own_value_goes_before_the_campaign_s() -> None:
    step = Step(1, "{{ name }}", "{{ email }}")
    compiled = compile_campaign(Campaign("c", (step,), values={"name": "You", "email": "x"}))
    assert compiled.render(1, Recipient("Ada", "ada@example.com")).subject == "Ada"
    assert compiled.render(1, Recipient("", "ada@example.com")).subject == "You"
