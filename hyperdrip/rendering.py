"""PURE: a campaign's templates, compiled once; a step and a lead -> subject, HTML and text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from html import escape
from typing import Any

from hyperdrip.errors import CampaignError, RenderError
from hyperdrip.markdown import HTML_END, PREHEADER, SUBJECT, to_html
from hyperdrip.markdown import find_mistakes as find_markdown_mistakes
from hyperdrip.models import Campaign, Recipient, Rendered, Step
from hyperdrip.plain_text import to_text
from hyperdrip.template_values import Names, usable
from hyperdrip.template_words import without_tag_lines
from hyperdrip.templates import LEAD_NAMES, Mistake, Render, compile_template, find_mistakes

SMALL_PRINT = "margin: 16px 0 0; font-size: 13px; color: #57606a"
# What people write in front of a first name. A name that is nothing else stays as it is.
TITLES = frozenset({
    "mr", "mrs", "ms", "miss", "mx", "dr", "prof", "professor", "sir", "dame", "rev", "herr",
    "frau", "hr", "fr", "dipl", "ing", "med",
})  # fmt: skip


@dataclass(frozen=True)
class CompiledStep:
    """One step as functions of its values."""

    number: int
    subject: Render
    preheader: Render | None
    html: Render
    text: Render
    values: Mapping[str, Any]


@dataclass(frozen=True)
class CompiledCampaign:
    """A version of a campaign without mistakes; make it once and keep it.

    A step is compiled when it is first written: a worker that starts waits for what it sends.
    """

    campaign: Campaign
    values: Mapping[str, Any]
    _steps: dict[int, CompiledStep] = field(default_factory=dict, repr=False, compare=False)

    def render(self, number: int, recipient: Recipient) -> Rendered:
        """Write step `number` for one lead.

        Raises: RenderError naming the step, and the value that is missing.
        """
        name, count = self.campaign.name, len(self.campaign.steps)
        if number > count and self.campaign.is_endless:
            return render(replace(self._step(count), number=number), recipient)
        if not 1 <= number <= count:
            raise RenderError(f"campaign {name!r} has {count} steps, and no step {number}")
        return render(self._step(number), recipient)

    def _step(self, number: int) -> CompiledStep:
        found = self._steps.get(number)
        if found is None:
            step, footer = self.campaign.steps[number - 1], self.campaign.footer or ""
            found = self._steps[number] = _compile_step(step, footer, self.values)
        return found


def compile_campaign(campaign: Campaign) -> CompiledCampaign:
    """Check all templates of a campaign, and make ready to write them.

    Raises: CampaignError with a line for each mistake in them.
    """
    mistakes = [
        f"campaign {campaign.name!r}, step {step.number}, {part}, line {mistake.line}:"
        f" {mistake.text}"
        for step in campaign.steps
        for part, mistake in find_step_mistakes(step, campaign.values)
    ]
    footer = campaign.footer or ""
    mistakes += [
        f"campaign {campaign.name!r}, footer, line {mistake.line}: {mistake.text}"
        for mistake in find_body_mistakes(footer, campaign.values)
    ]
    if mistakes:
        raise CampaignError("\n".join(mistakes))
    given = ((name, usable(value, name)) for name, value in campaign.values.items())
    values = {name: value for name, value in given if value is not None}
    return CompiledCampaign(campaign, values)


def _compile_step(step: Step, footer: str, values: Mapping[str, Any]) -> CompiledStep:
    own = step.plain_text
    text = to_text(step.markdown) if own is None else without_tag_lines(own)
    below = f"\n\n--\n{to_text(footer)}" if footer.strip() else ""
    html = to_html(step.markdown, footer, has_preheader=bool(step.preheader))
    # A lead's own values go before those of the campaign.
    constants = {name: value for name, value in values.items() if name not in LEAD_NAMES}
    return CompiledStep(
        number=step.number,
        subject=compile_template(step.subject, constants),
        preheader=compile_template(step.preheader, constants) if step.preheader else None,
        html=compile_template(html, constants, is_html=True),
        text=compile_template(text.rstrip() + below, constants),
        values=values,
    )


def find_step_mistakes(step: Step, values: Mapping[str, Any]) -> Iterator[tuple[str, Mistake]]:
    """Yield what is wrong with a step's templates: which of them, and the mistake."""
    known = LEAD_NAMES | values.keys()
    for part, source in (
        ("subject", step.subject),
        ("preheader", step.preheader or ""),
        ("text", step.plain_text or ""),
    ):
        for mistake in find_mistakes(source, known):
            yield part, mistake
    for mistake in find_body_mistakes(step.markdown, values):
        yield "body", mistake


def find_body_mistakes(markdown: str, values: Mapping[str, Any]) -> list[Mistake]:
    """List what is wrong with Markdown that has templates in it."""
    mistakes = find_mistakes(markdown, LEAD_NAMES | values.keys())
    return mistakes or find_markdown_mistakes(markdown)


def render(step: CompiledStep, recipient: Recipient) -> Rendered:
    """Write one step for one lead.

    Raises: RenderError naming the step, and the value that is missing.
    """
    try:
        values = {**step.values, **_lead_values(recipient)}
        subject = values[SUBJECT] = _one_line(step.subject(values))
        if not subject:
            raise RenderError("its subject is empty")
        preheader = ""
        if step.preheader:
            preheader = values[PREHEADER] = _one_line(step.preheader(values))
        html = step.html(values)
        text = step.text(values).strip() + "\n"
        if len(text) == 1:
            raise RenderError("its text is empty")
    except RenderError as error:
        raise RenderError(f"step {step.number}: {error}", missing=error.missing) from None
    return Rendered(step.number, subject, preheader, html, text)


def _lead_values(recipient: Recipient) -> dict[str, Any]:
    values: dict[str, Any] = {"fields": Names("fields", recipient.fields)}
    if name := usable(recipient.name):
        values["name"] = name
        if first := first_name(name):
            values["first_name"] = first
    if email := usable(recipient.email):
        values["email"] = email
    return values


def first_name(name: str) -> str | None:
    """The name that one says hello with; None when it is not to be found in `name`.

    `Ada Marlowe`, `Marlowe, Ada`, `Dr. Ada Marlowe` give `Ada`; an address gives None.
    """
    family, comma, given = name.partition(",")
    words = (given.split() if comma and " " not in family.strip() else []) or name.split()
    first = words[0] if words else ""
    for word in words:
        if word.rstrip(".").lower() not in TITLES:
            first = word
            break
    first = first.strip(",;")
    return None if "@" in first else usable(first)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def add_notice(
    rendered: Rendered, *, unsubscribe_url: str = "", postal_address: str = ""
) -> Rendered:
    """Put what the law asks for below both parts: who writes, and the way out."""
    if not unsubscribe_url and not postal_address:
        return rendered
    html, text = _lines_of_html(postal_address), postal_address
    if unsubscribe_url:
        gap, newline = ("<br>", "\n") if postal_address else ("", "")
        link = f'<a href="{escape(unsubscribe_url)}" style="color: #57606a">Unsubscribe</a>'
        html, text = f"{html}{gap}{link}", f"{text}{newline}Unsubscribe: {unsubscribe_url}"
    html = f'{rendered.html[: -len(HTML_END)]}<p style="{SMALL_PRINT}">{html}</p>{HTML_END}'
    text = f"{rendered.text}\n{text}\n"
    return Rendered(rendered.number, rendered.subject, rendered.preheader, html, text)


@lru_cache(maxsize=10)
def _lines_of_html(text: str) -> str:
    return escape(text).replace("\n", "<br>")
