"""A campaign's folder: what is read, and what is said of mistakes."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from hyperdrip.campaign_files import read_campaign
from hyperdrip.campaign_settings import from_settings, to_settings
from hyperdrip.errors import CampaignError, RenderError
from hyperdrip.models import Campaign, Recipient, Step
from hyperdrip.rendering import compile_campaign, first_name

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "campaigns").iterdir())
ADA = Recipient("Ada Marlowe", "ada@example.com")
HEAD = 'name = "trial"\n'
STEP = "---\nsubject: Hello {{ first_name }}\n---\nHi {{ first_name }},\n"


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def step(markdown: str = "text", subject: str = "Hello", **further: str | int) -> str:
    lines = "".join(f"{key}: {value}\n" for key, value in further.items())
    return f"---\nsubject: {subject}\n{lines}---\n{markdown}\n"


def test_a_folder_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    head = """\ufeff
name = "trial"
from = "Ada <ada@example.com>"
reply-to = "help@example.com"
footer = "Sent by {{ product }}."
[values]
product = "Acme"
days = 14
"""
    files = {
        "campaign.toml": head,
        "10-last.md": step("Bye", subject='"{{ days }} days"', delay_days=3),
        "2-second.md": step("More\n\n---\n\nand more", preheader="Soon", text="Plain"),
        "01-welcome.md": STEP.replace("\n", "\r\n"),
        "README.md": "about this campaign",
        "notes.txt": "no step",
    }
    found = read_campaign(write(tmp_path, files))
    assert found == Campaign(
        name="trial",
        mail_from="Ada <ada@example.com>",
        reply_to="help@example.com",
        footer="Sent by {{ product }}.",
        values={"product": "Acme", "days": 14},
        steps=(
            Step(1, "Hello {{ first_name }}", "Hi {{ first_name }},"),
            Step(2, "Hello", "More\n\n---\n\nand more", preheader="Soon", plain_text="Plain"),
            Step(3, "{{ days }} days", "Bye", delay_days=3),
        ),
    )
    assert from_settings("trial", to_settings(found), found.steps) == found
    compiled = compile_campaign(found)
    assert compiled.render(2, ADA).text == "Plain\n\n--\nSent by Acme.\n"
    assert compiled.render(3, ADA).subject == "14 days"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("campaign.toml", "name = trial", "campaign.toml:1: is no TOML: Invalid value"),
        ("campaign.toml", "", 'campaign.toml: has no name; write a line such as name = "trial'),
        ("campaign.toml", 'name = "A B"', "campaign.toml:1: name 'A B' is not one of lower-case"),
        (
            "campaign.toml",
            f'{HEAD}reply_to = "a@b.c"',
            ":2: unknown key 'reply_to'; did you mean r",
        ),
        ("campaign.toml", f"{HEAD}from = 5", "campaign.toml:2: from is no text"),
        ("campaign.toml", f'{HEAD}from = "Ada"', ":2: from 'Ada' is no e-mail address; write Your"),
        ("campaign.toml", f'{HEAD}from = "A\\n <a@b.c>"', "campaign.toml:2: from 'A\\n <a@b.c>'"),
        ("campaign.toml", f'{HEAD}\nfooter = "{{{{ nam }}}}"', ":3: footer: unknown name 'nam'"),
        ("campaign.toml", f'{HEAD}[values]\nname = "x"', ":2: value 'name' is a lead's own"),
        ("campaign.toml", f'{HEAD}[values]\n"a b" = 1', ":2: value 'a b' is no name for templates"),
        ("campaign.toml", f"{HEAD}[values]\nnone = 1", ":2: value 'none' is no name for templates"),
        ("campaign.toml", f"{HEAD}[values]\nday = 2024-01-15", ":2: value 'day' is no text or num"),
        ("welcome.md", STEP, "welcome.md: has no number; name it such as 01-welcome.md"),
        ("01-b.md", STEP, "01-b.md: has the number of 01-a.md; give it another one"),
        ("02-b.md", "Hi", "02-b.md:1: has no front matter; begin with the lines ---"),
        ("02-b.md", "---\nsubject: x\n", "02-b.md:1: has no front matter"),
        ("02-b.md", "---\nsubject: x\n---\n", "02-b.md: has no text; write it below"),
        ("02-b.md", "---\ntext: x\n---\nx", "02-b.md: has no subject; write one"),
        ("02-b.md", step(subject="{{ name }}, hi"), "02-b.md:2: front matter is no YAML"),
        ("02-b.md", step(subject="Re: this: that"), "02-b.md:2: front matter is no YAML"),
        ("02-b.md", step(subject="5"), "02-b.md:2: subject is no text; put it in quotes"),
        ("02-b.md", step(delay_days=1) + "\n\x1b", "02-b.md:7: has the control character '\\x1b'"),
        ("02-b.md", step(subject="x\nsubject: y"), "02-b.md:3: subject stands here a second time"),
        ("02-b.md", step(subject="x" * 901), "02-b.md:2: subject is longer than 900 characters"),
        ("02-b.md", "---\nsubject: 2024-13-45\n---\nx", "02-b.md: front matter is no YAML: month"),
        ("campaign.toml", f"{HEAD}values = 5", "campaign.toml:2: values is no table"),
        (
            "02-b.md",
            step(delay_days=0),
            "02-b.md:3: delay_days is not a whole number from 1 to 365",
        ),
        ("02-b.md", step(delay_days="true"), "02-b.md:3: delay_days is not a whole number"),
        ("02-b.md", step(delay_days="1:30"), "02-b.md:3: delay_days is not a whole number"),
        ("02-b.md", step(delay_days="0x10"), "02-b.md:3: delay_days is not a whole number"),
        ("campaign.toml", f"{HEAD}values.x = {'[' * 9999}", "campaign.toml: is nested too deeply"),
        ("01-a.md", step(delay_days=2), "01-a.md:3: delay_days: the first message leaves when"),
        (
            "02-b.md",
            step(delay_day=2),
            "02-b.md:3: unknown key 'delay_day'; did you mean delay_days",
        ),
        ("02-b.md", step("\n\nHi {{ nme }}"), "02-b.md:6: unknown name 'nme'; known are email, "),
        ("02-b.md", step("a\n\n{{ name"), "02-b.md:6: "),
        ("02-b.md", step("a\n{% endif %}"), "02-b.md:5: Encountered unknown tag 'endif'"),
        ("02-b.md", step("{{ name | shout }}"), "02-b.md:4: unknown filter 'shout'; known are abs"),
        ("02-b.md", step("{{ name | safe }}"), "02-b.md:4: unknown filter 'safe'"),
        ("02-b.md", step("{{ name.upper() }}"), "02-b.md:4: functions cannot be called; use a"),
        ("02-b.md", step("{{ name.first }}"), "02-b.md:4: name is a text and has no parts"),
        ("02-b.md", step("{% include 'x' %}"), "02-b.md:4: 'include' is not for campaigns"),
        ("02-b.md", step("{% raw %}{{ x }}{% endraw %}"), "02-b.md:4: 'raw' is not for campaigns"),
        ("02-b.md", step("{% if name %}a\n\nb{% endif %}"), "02-b.md:4: a {% if %} and its end"),
        ("02-b.md", step("- {% if name %}\n\n{% endif %}"), "02-b.md:6: a {% endif %} and its end"),
        ("02-b.md", step("> > {% if name %}\n\n- x\n\n  {% endif %}"), ":8: a {% endif %} and its"),
        ("02-b.md", step("{% for loop in fields.x %}{% endfor %}"), "02-b.md:4: Can't assign to"),
        (
            "02-b.md",
            step("{{ " + "(" * 999 + "name" + ")" * 999 + " }}"),
            ":4: has too many things",
        ),
        (
            "02-b.md",
            step("{% for a in fields.a %}" * 30 + "{% endfor %}" * 30),
            "02-b.md:4: has too many things within each other",
        ),
        ("02-b.md", step("a\n[b](www.example.com)"), "02-b.md:5: 'www.example.com' is no address"),
        ("02-b.md", step("![b](b.png)"), "02-b.md:4: 'b.png' is no address for a mail; it has to"),
        ("02-b.md", step("[a]({% if name %}{{ email }}{% endif %})"), ":4: an address begins with"),
        ("02-b.md", step("a\n\nA <b>word</b>"), "02-b.md:6: '<b>' is HTML; write Markdown, or \\<"),
        ("02-b.md", step("<!-- a\nb -->"), "02-b.md:4: '<!-- a' is HTML"),
        ("02-b.md", step(preheader='"{{ pre }}"'), "02-b.md:3: preheader: unknown name 'pre'"),
        ("02-b.md", step(text='"{{ pre }}"'), "02-b.md:3: text: unknown name 'pre'"),
        ("02-b.md", step("x" * 200_001), "02-b.md: is larger than 200000 bytes"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_cure(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    write(tmp_path, {"campaign.toml": HEAD, "01-a.md": STEP, name: text})
    with pytest.raises(CampaignError) as refusal:
        read_campaign(tmp_path)
    (line,) = refusal.value.mistakes
    assert expected in line
    assert line.isprintable()
    assert refusal.value.exit_code == 5


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "01-latin.md").write_bytes(b"---\nsubject: Gr\xfc\xdfe\n---\nHi")
    write(
        tmp_path, {"02-b.md": step("{{ a }}\n{{ b }}"), "03-c.md": step(subject="1", color="red")}
    )
    with pytest.raises(CampaignError) as refusal:
        read_campaign(tmp_path)
    assert [line.split(";")[0] for line in refusal.value.mistakes] == [
        "campaign.toml: is not there",
        "01-latin.md:2: is not UTF-8",
        "02-b.md:4: unknown name 'a'",
        "02-b.md:5: unknown name 'b'",
        "03-c.md:3: unknown key 'color'",
        "03-c.md:2: subject is no text",
    ]
    assert str(refusal.value).splitlines() == refusal.value.mistakes


def test_a_file_that_cannot_be_read_and_a_step_too_many_are_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdrip.campaign_files.MOST_STEPS", 1)
    write(tmp_path, {"campaign.toml": HEAD, "1-a.md": STEP})
    (tmp_path / "2-a.md").mkdir()
    os.mkfifo(tmp_path / "3-a.md")
    (tmp_path / "4-a.md").symlink_to("nowhere")
    with pytest.raises(CampaignError) as refusal:
        read_campaign(tmp_path)
    assert refusal.value.mistakes == [
        f"{tmp_path.name}: has more than 1 steps",
        "2-a.md: is no file",
        "3-a.md: is no file",
        "4-a.md: is not there; its link leads nowhere",
    ]


def test_a_subject_that_grows_when_it_is_read_is_a_mistake(tmp_path: Path) -> None:
    """Each list is ten of the one before: as text it would not fit any memory."""
    lists = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 20))
    text = f"---\nl0: &l0 [x]\n{lists}subject: *l19\n---\nHi"
    write(tmp_path, {"campaign.toml": HEAD, "01-a.md": text})
    with pytest.raises(CampaignError) as refusal:
        read_campaign(tmp_path)
    assert "01-a.md:22: subject is no text; put it in quotes" in refusal.value.mistakes


def test_a_folder_that_is_none_or_is_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="is no folder"):
        read_campaign(tmp_path / "gone")
    with pytest.raises(CampaignError, match=r"has no steps; write one such as 01-welcome\.md"):
        read_campaign(write(tmp_path, {"campaign.toml": HEAD}))


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_the_examples_can_be_sent_to_a_lead_that_has_nothing_but_a_name(folder: Path) -> None:
    campaign = read_campaign(folder)
    assert campaign.name == folder.name
    compiled = compile_campaign(campaign)
    for content in campaign.steps:
        rendered = compiled.render(content.number, ADA)
        assert rendered.text.startswith("Hi Ada,\n\n")
        assert rendered.preheader
        assert not {"{", "*", "\n\n\n"} & set(rendered.text)
        assert "\n\n\n" not in rendered.text


# Rendering


def compiled_text(markdown: str, recipient: Recipient = ADA, **values: object) -> str:
    campaign = Campaign("c", (Step(1, "s", markdown),), values=values)
    return compile_campaign(campaign).render(1, recipient).text


@pytest.mark.parametrize("blank", [None, "", " ", "\n\t", "\u00a0", "\u200b", "\x00"])
def test_a_blank_value_is_missing_and_the_lead_that_misses_it_is_told_by_name(
    blank: str | None,
) -> None:
    lead = Recipient("Ada", "ada@example.com", fields={"x": {"y": blank}, "z": blank})
    for source, missing in (
        ("{{ fields.z | upper }}", "fields.z"),
        ("{{ fields['z'] }}", "fields.z"),
        ("{{ fields.x.y }}", "fields.x.y"),
        ("{{ fields.gone.y }}", "fields.gone.y"),
        ("{% if fields.z %}a{% endif %}", "fields.z"),
        ("[a]({{ fields.z }})", "fields.z"),
    ):
        with pytest.raises(RenderError, match=f"^step 1: {missing} is missing; ") as refusal:
            compiled_text(source, lead)
        assert refusal.value.missing == missing
        assert compiled_text("{{ fields.z | default('there') }}", lead) == "there\n"
        assert compiled_text("{% if fields.z is defined %}a{% endif %}b", lead) == "b\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ fields }}", "fields holds several values; name one of them"),
        ("{{ fields ~ 1 }}", "fields holds several values; name one of them"),
        ("{{ people | join(', ') }}", "people holds several values; name one of them"),
        ("{{ fields.l | replace('x', fields.l) }}", "longer"),
        ("{{ talks | join(fields.l * 1) }}", "* is for numbers"),
        ("{% if fields.gone is defined %}a{% endif %}", "its text is empty"),
        ("{{ talks }}", "a list cannot be printed"),
        ("{{ name * 9 }}", "* is for numbers"),
        ("{{ 1 / 0 }}", "a value does not fit what is done with it"),
        ("{{ name + 1 }}", "a value does not fit what is done with it"),
        ("{{ name | truncate(2) }}", "a value does not fit what is done with it"),
        ("{{ talks | truncate(1, false, '', 0) }}", "a value does not fit what is done with it"),
        ("[a]({{ fields.link }})", "'javascript:alert(1)' is no address for a link"),
        ("{% for a in talks %}{% for b in talks %}{{fields.l}}{% endfor %}{% endfor %}", "longer"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_with_the_step(source: str, reason: str) -> None:
    fields = {"link": "javascript:alert(1)", "l": "x" * 99_000}
    lead = Recipient("Ada", "a@b.c", fields)
    with pytest.raises(RenderError) as refusal:
        compiled_text(source, lead, talks=["one", "two", "three"], people=[{"name": "Ada"}])
    assert str(refusal.value).startswith("step 1: ")
    assert reason in str(refusal.value)
    assert refusal.value.missing == ""


def test_a_plain_text_is_as_a_person_would_have_typed_it() -> None:
    markdown = """\
# A title

Some *words* on
two lines, a [link](https://a.example/b?c=d&e=f), <https://x.example>, <ada@example.com>.\\
A new line.

{% for talk in talks %}
- {{ talk.title }}{% if talk.room is defined %} ({{ talk.room }}){% endif %}
{% endfor %}

3. three
4. four

   - inner

[ada@example.com](mailto:ada@example.com)

> quoted

    code {x}

***

| a | b |
|---|---|
| 1 | {{ name }} |
"""
    talks = [{"title": "One", "room": "R1"}, {"title": "Two"}]
    assert (
        compiled_text(markdown, talks=talks)
        == """\
A title

Some words on two lines, a link (https://a.example/b?c=d&e=f), https://x.example, ada@example.com.
A new line.

- One (R1)
- Two

3. three

4. four

   - inner

ada@example.com

> quoted

    code {x}

--------------------

a | b
1 | Ada Marlowe
"""
    )


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("a\n\n{% for t in two %}\n- {{ t }}\n{% endfor %}\n\nb", "a\n\n- x\n- y\n\nb"),
        ("- a\n{% if fields.z is defined %}\n- b\n{% endif %}\n- c", "- a\n- c"),
        ("1. a\n{% if name is defined %}\n2. b\n{% endif %}\n3. c", "1. a\n2. b\n3. c"),
        ("a\n\n{% if fields.z is defined %}\n- b\n{% endif %}\n\nc", "a\n\nc"),
        ("- a\n{% if name is defined %}\n- b\n\nc\n{% endif %}", "- a\n\n- b\n\nc"),
        ("{% for t in nobody %}\n- {{ t }}\n{% else %}\nnobody\n{% endfor %}", "nobody"),
        ("a\n{# a note #}\nb", "a b"),
        ("[Ready?](https://x.example)\n\n- [y](https://y.example)", "Ready?\nhttps://x.example\n\n"
         "- y:\n  https://y.example"),
        ("`{{ name }}` {x} {{ '{{' }}", "Ada Marlowe {x} {{"),
        ("{{ two[1] }}{{ two[7] | default('!') }}{{ two | first }} {{ two[:1] | join }}", "y!x x"),
        ("{% for t in two %}{{ loop.index }}{{ t }}{% endfor %}{{ 7 * 2 }}", "1x2y14"),
        ("{{ name | replace('a', 'o', 1) }}", "Ado Marlowe"),
        ("{{ two.title | default('-') }} ![A {{ name }}](https://x.example/a)", "- A Ada Marlowe"),
    ],
)  # fmt: skip
def test_conditions_and_lists_leave_no_trace(markdown: str, expected: str) -> None:
    assert compiled_text(markdown, two=["x", " ", "y"], nobody=[]) == f"{expected}\n"


def test_a_list_around_which_there_are_tags_is_one_list_in_html() -> None:
    markdown = "{% for t in two %}\n- {{ t }}\n{% endfor %}\n\n- a\n{% if name %}\n- b\n{% endif %}"
    campaign = Campaign("c", (Step(1, "s", markdown),), values={"two": ["x", "y"]})
    html = compile_campaign(campaign).render(1, ADA).html
    letter = re.sub(r' style="[^"]*"|\n', "", html).partition('<div class="letter">')[2]
    assert letter.startswith("<ul><li>x</li><li>y</li><li>a</li><li>b</li></ul></div>")


def test_many_lists_with_tags_between_them_are_read_as_fast_as_few() -> None:
    """Hundreds of them: to try every beginning with every end would take minutes."""
    markdown = "{% if name %}\n- x\n{% endif %}\n" * 300
    campaign = Campaign("c", (Step(1, "s", markdown),))
    html = compile_campaign(campaign).render(1, ADA).html
    letter = re.sub(r' style="[^"]*"|\n', "", html).partition('<div class="letter">')[2]
    assert letter.count("<li>x</li>") == 300


def test_a_text_of_one_s_own_has_no_empty_lines_for_its_tags() -> None:
    own = (
        "Hi\n{# note #}\n{% for t in two %}\n- {{ t }}\n{% endfor %}\nBye{% if name %}!{% endif %}"
    )
    campaign = Campaign("c", (Step(1, "s", "x", plain_text=own),), values={"two": ["x", "y"]})
    assert compile_campaign(campaign).render(1, ADA).text == "Hi\n- x\n- y\nBye!\n"


def test_a_campaign_that_is_not_from_files_is_checked_as_well() -> None:
    campaign = Campaign("c", (Step(1, "{{ a", "{{ b }}"),), footer="{{ c }}")
    with pytest.raises(CampaignError) as refusal:
        compile_campaign(campaign)
    assert [line.partition(": ")[0] for line in refusal.value.mistakes] == [
        "campaign 'c', step 1, subject, line 1",
        "campaign 'c', step 1, body, line 1",
        "campaign 'c', footer, line 1",
    ]
    compiled = compile_campaign(Campaign("c", (Step(1, "{{ '' }}", "b"),)))
    with pytest.raises(RenderError, match=r"^step 1: its subject is empty"):
        compiled.render(1, ADA)
    with pytest.raises(RenderError, match="'c' has 1 steps, and no step 2"):
        compiled.render(2, ADA)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ada Marlowe", "Ada"), ("Marlowe, Ada", "Ada"), ("Dr. Ada Marlowe", "Ada"), ("Ada", "Ada"),
        ("Prof. Dr. med. Zoë Q", "Zoë"), ("Ada Marlowe, PhD", "Ada"), ("Dr.", "Dr."), ("", None),
        ("ada@example.com", None), ("李小龍", "李小龍"), ("🦊 Fox", "🦊"),
        (",", None), (" , ", None),
    ],
)  # fmt: skip
def test_the_first_name_is_the_one_to_say_hello_with(name: str, expected: str | None) -> None:
    assert first_name(name) == expected
