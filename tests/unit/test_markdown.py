"""Whatever an author writes: it is a mistake that is named, or it gives whole HTML."""

from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyperdrip.errors import CampaignError, RenderError
from hyperdrip.models import Campaign, Recipient, Step
from hyperdrip.rendering import compile_campaign
from hyperdrip.template_words import MARK

VALUES = {"talks": ["x", "y"], "url": "https://u.example"}
FRAGMENTS = [
    "{% if name is defined %}", "{% if fields.q is defined %}", "{% else %}", "{% endif %}",
    "{% elif fields.q is defined %}", "{%- if name -%}", "{% for t in talks %}", "{% endfor %}",
    "{{ name }}", "{{ t }}", "{{ fields.q | default('d') }}", "{{ url }}", "{# c #}",
    "{% set x = name %}", "- ", "  - ", "1. ", "> ", "    ", "# ", "```", "`", "\n", "\n\n", "*",
    "**", "~~", "_", "[a](https://x.example/", "[a](", ' "', ")", "![i](https://x.example/y)",
    "[r]", "===\n", "[r]: https://x.example\n", "<https://x.example>", " word ", "|",
    "| a | b |\n|---|---|\n| ", "---\n", "\\", "&amp;", "{", "}", "%}", "é", MARK, f"{MARK}0v",
]  # fmt: skip
LINES = [
    "word", "*{{ name }}*", "[a](https://x.example)", "- a", "- a\n- b", "1. a", "> q", "# h",
    "    code", "| a |\n|---|\n| b |", "{# c #}",
]  # fmt: skip


def within_tags(lines: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    tags = st.sampled_from(["if name is defined", "if fields.q is defined", "for t in talks"])
    gaps = st.sampled_from(["\n", "\n\n"])

    def within(tag: str, inner: list[str], gap: str) -> str:
        return gap.join([f"{{% {tag} %}}", *inner, f"{{% end{tag.partition(' ')[0]} %}}"])

    return st.one_of(
        st.builds(within, tags, st.lists(lines, min_size=1, max_size=3), gaps),
        st.lists(lines, min_size=1, max_size=3).map("\n".join),
        lines.map(lambda text: "- " + text.replace("\n", "\n  ")),
        lines.map(lambda text: "> " + text.replace("\n", "\n> ")),
    )


class Balanced(HTMLParser):
    """Fails when an element does not end where it has to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.opened = list[str]()
        self.feed(html)
        self.close()
        assert not self.opened

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "hr", "img"):
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened
        assert self.opened.pop() == tag


@settings(max_examples=120)
@given(
    st.recursive(st.sampled_from(LINES), within_tags, max_leaves=12)
    | st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join)
)
@example("{% if fields.q is defined %}{{ name }}{% else %}*{% endif %}*")
@example(f"{{{{ name }}}} {MARK}0v")
@example("```{% if fields.q is defined %}\na\n```\n\n{% endif %}")
@example("> > {% if fields.q is defined %}\n\n- x\n\n  {% endif %}")
@example('[a](https://x.example "{% if fields.q is defined %}")*b*{% endif %}')
def test_markdown_is_a_mistake_or_gives_whole_html_whatever_the_lead_has(markdown: str) -> None:
    try:
        compiled = compile_campaign(Campaign("c", (Step(1, "s", markdown),), values=VALUES))
    except CampaignError:
        return
    for fields in ({}, {"q": "Q"}):
        try:
            rendered = compiled.render(1, Recipient("Ada", "ada@example.com", fields=fields))
        except RenderError:
            continue
        Balanced(rendered.html)
        if MARK not in markdown:
            assert MARK not in rendered.html + rendered.text


@pytest.mark.parametrize(
    "markdown",
    [
        "{% if name %}*a{% endif %}*",
        "*{% if name %}a*{% endif %}",
        "`{% if name %}` {% endif %}",
        "[a{% if name %}](https://x.example){% endif %}",
        "[a](https://x.example/{% if name %}) {% endif %}",
        "```{% if name %}\na\n```\n\n{% endif %}",
    ],
)
def test_what_would_tear_an_element_is_a_mistake(markdown: str) -> None:
    with pytest.raises(CampaignError, match=r"a {% if %} and its end do not stand in the same"):
        compile_campaign(Campaign("c", (Step(1, "s", markdown),)))


@pytest.mark.parametrize(
    "markdown",
    [
        "*{% if name %}a{% endif %}*",
        "{% if name %}*a*{% else %}**b**{% endif %}",
        "[a{% if name %}b{% endif %}](https://x.example/{% if name %}c{% endif %})",
        "![{% if name %}a{% endif %}](https://x.example)",
        "`{% if name %}a{% endif %}`",
    ],
)
def test_a_condition_within_an_element_is_fine(markdown: str) -> None:
    compiled = compile_campaign(Campaign("c", (Step(1, "s", markdown),)))
    Balanced(compiled.render(1, Recipient("Ada", "ada@example.com")).html)
