"""PURE: what differs between two versions of a campaign, as text that people read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff

from hyperdrip.models import Campaign, Step

HEAD = "campaign"
CONTEXT_LINES = 2


@dataclass(frozen=True)
class Change:
    """One part that differs: `campaign`, or `step 2`; `kind`: added, changed or removed.

    `diff`: lines that begin with a blank, `-`, `+` or `@@`.
    """

    part: str
    kind: str
    diff: tuple[str, ...]


def find_changes(old: Campaign | None, new: Campaign) -> tuple[Change, ...]:
    """What makes `new` differ from `old` (None: there is none), the campaign first, then by step.

    Nothing differs when both would write the same messages after the same delays.
    """
    before = _parts(old) if old is not None else {}
    after = _parts(new)
    return tuple(_compare(before, after))


def _compare(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> Iterator[Change]:
    for part in {**after, **before}:
        old, new = before.get(part, []), after.get(part, [])
        if part in before and part in after and old == new:
            continue
        kind = "added" if part not in before else "changed" if part in after else "removed"
        lines = unified_diff(old, new, n=CONTEXT_LINES, lineterm="")
        # Without the names of files, which there are none of.
        yield Change(part, kind, tuple(list(lines)[2:]))


def _parts(campaign: Campaign) -> dict[str, list[str]]:
    parts = {HEAD: _head(campaign)}
    parts.update((f"step {step.number}", _step(step)) for step in campaign.steps)
    return parts


def _head(campaign: Campaign) -> list[str]:
    given = {
        "from": campaign.mail_from,
        "reply-to": campaign.reply_to,
        "footer": campaign.footer,
        **{f"values.{name}": campaign.values[name] for name in sorted(campaign.values)},
    }
    return [
        f"{name} = {json.dumps(value, ensure_ascii=False, sort_keys=True)}"
        for name, value in given.items()
        if value is not None
    ]


def _step(step: Step) -> list[str]:
    lines = [f"subject: {step.subject}"]
    if step.number > 1:
        lines.append(f"delay_days: {step.delay_days}")
    if step.preheader:
        lines.append(f"preheader: {step.preheader}")
    if step.plain_text:
        lines += ["text:", *(f"  {line}" for line in step.plain_text.splitlines())]
    return [*lines, "", *step.markdown.split("\n")]
