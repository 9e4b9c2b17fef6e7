"""A campaign as files: `campaign.toml`, and a Markdown file with front matter for each step.

Every mistake is found before anything is said, and is one line: file, line, what to do.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from stat import S_ISREG
from typing import Any

import frontmatter
import yaml
from frontmatter.default_handlers import YAMLHandler

from hyperdrip.campaign_settings import from_settings
from hyperdrip.errors import CampaignError, InvalidDataError
from hyperdrip.headers import LONGEST_VALUE, parse_mailbox
from hyperdrip.models import Campaign, Step
from hyperdrip.rendering import find_body_mistakes, find_step_mistakes
from hyperdrip.templates import LEAD_NAMES

HEAD = "campaign.toml"
LARGEST_FILE = 200_000
LONGEST_DELAY_DAYS = 365
MOST_STEPS = 365
CAMPAIGN_KEYS = ("name", "from", "reply-to", "footer", "values")
JINJA_WORDS = frozenset({
    "and", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "self", "true",
})  # fmt: skip
STEP_KEYS = ("subject", "delay_days", "preheader", "text")


class _Mistakes(list[str]):
    """The lines to say; those without a line number stand for a whole file."""

    def note(self, file: str, line: int | None, text: str) -> None:
        self.append(f"{file}:{line}: {text}" if line else f"{file}: {text}")


def read_campaign(folder: Path) -> Campaign:
    """Read a campaign's folder; its steps are the files `01-*.md`, `02-*.md`, ... in that order.

    Raises: CampaignError with a line for each mistake, in the order of the files.
    """
    if not folder.is_dir():
        raise CampaignError(f"{folder}: is no folder; name one that has a {HEAD}")
    mistakes = _Mistakes()
    head = _read_head(folder, mistakes)
    values = head.get("values", {})
    steps = [
        _read_step(path, number, values, mistakes)
        for number, path in enumerate(_list_step_files(folder, mistakes), 1)
    ]
    if mistakes:
        raise CampaignError("\n".join(mistakes))
    return from_settings(head["name"], head, [step for step in steps if step])


def _read_text(path: Path, mistakes: _Mistakes) -> str | None:
    try:
        if not S_ISREG(path.stat().st_mode):
            mistakes.note(path.name, None, "is no file")
            return None
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            mistakes.note(path.name, None, f"is larger than {LARGEST_FILE} bytes; shorten it")
            return None
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        hint = (
            'write it, with a line name = "..."' if path.name == HEAD else "its link leads nowhere"
        )
        mistakes.note(path.name, None, f"is not there; {hint}")
    except OSError as error:
        mistakes.note(path.name, None, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        mistakes.note(path.name, line, "is not UTF-8; save the file as UTF-8")
    else:
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return None


# campaign.toml


def _read_head(folder: Path, mistakes: _Mistakes) -> dict[str, Any]:
    """The keys that are right."""
    text = _read_text(folder / HEAD, mistakes)
    if text is None:
        return {}
    try:
        found = tomllib.loads(text)
    except RecursionError:
        mistakes.note(HEAD, None, "is nested too deeply")
        return {}
    except tomllib.TOMLDecodeError as error:
        where = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        reason = str(error)[: where.start()] if where else str(error)
        mistakes.note(HEAD, int(where[1]) if where else None, f"is no TOML: {reason}")
        return {}
    _refuse_unknown(HEAD, text, found, CAMPAIGN_KEYS, mistakes)
    right = {
        key: found[key]
        for key in CAMPAIGN_KEYS
        if key in found and _is_right(key, found[key], _line_of(text, key), mistakes)
    }
    if "name" not in found:
        mistakes.note(HEAD, None, 'has no name; write a line such as name = "trial-onboarding"')
    values = right.get("values", {})
    for mistake in find_body_mistakes(right.get("footer", ""), values):
        line = (_line_of(text, "footer") or 1) + mistake.line - 1
        mistakes.note(HEAD, line, f"footer: {mistake.text}")
    return right


def _is_right(key: str, value: Any, line: int | None, mistakes: _Mistakes) -> bool:
    before = len(mistakes)
    if key == "values":
        _check_values(value, line, mistakes)
    elif not isinstance(value, str) or not value.strip():
        mistakes.note(HEAD, line, f'{key} is no text; write {key} = "..." or leave it out')
    elif key == "name" and not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,59}", value):
        mistakes.note(
            HEAD, line, f"name {value[:60]!r} is not one of lower-case letters, digits, - and _"
        )
    elif key in ("from", "reply-to"):
        try:
            parse_mailbox(key, value)
        except InvalidDataError as error:
            mistakes.note(HEAD, line, f"{error}; write Your name <you@example.com>")
    return len(mistakes) == before


def _check_values(values: Any, line: int | None, mistakes: _Mistakes) -> None:
    if not isinstance(values, Mapping):
        mistakes.note(HEAD, line, "values is no table; write them below a line [values]")
        return
    for name, value in values.items():
        if name in LEAD_NAMES:
            mistakes.note(HEAD, line, f"value {name!r} is a lead's own; choose another name")
        elif not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name.lower() in JINJA_WORDS:
            mistakes.note(
                HEAD,
                line,
                f"value {name!r} is no name for templates; use letters, digits and _",
            )
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            mistakes.note(HEAD, line, f"value {name!r} is no text or number; put it in quotes")
        else:
            if "\\u0000" in text:  # which no database keeps
                mistakes.note(HEAD, line, f"value {name!r} has the character U+0000; take it out")


def _line_of(text: str, key: str) -> int | None:
    """Where a key of TOML or YAML is written."""
    match = re.search(rf'^[ \t]*\[?"?{re.escape(key)}"?\]?[ \t]*(?:[=:]|$)', text, re.MULTILINE)
    return text[: match.start()].count("\n") + 1 if match else None


def _refuse_unknown(
    file: str, text: str, found: Iterable[Any], known: Sequence[str], mistakes: _Mistakes
) -> None:
    for key in found:
        if key not in known:
            close = get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            mistakes.note(file, _line_of(text, str(key)), f"unknown key {str(key)!r}; {hint}")


# Steps


def _list_step_files(folder: Path, mistakes: _Mistakes) -> list[Path]:
    numbered = list[tuple[int, Path]]()
    for path in sorted(folder.glob("*.md")):
        match = re.match(r"(\d{1,6})(?=[-_.])", path.name)
        if match:
            numbered.append((int(match[1]), path))
        elif not path.name.startswith((".", "README")):
            mistakes.note(path.name, None, "has no number; name it such as 01-welcome.md")
    numbered.sort()
    for (number, path), (following, other) in pairwise(numbered):
        if number == following:
            mistakes.note(other.name, None, f"has the number of {path.name}; give it another one")
    if not numbered:
        mistakes.note(str(folder.name), None, "has no steps; write one such as 01-welcome.md")
    if len(numbered) > MOST_STEPS:
        mistakes.note(str(folder.name), None, f"has more than {MOST_STEPS} steps")
    return [path for _, path in numbered]


def _read_step(
    path: Path, number: int, values: Mapping[str, Any], mistakes: _Mistakes
) -> Step | None:
    file = path.name
    text = _read_text(path, mistakes)
    if text is None:
        return None
    text = text.rstrip()
    if not re.match(r"-{3,}[ \t]*\n(?:.*\n)*?-{3,}[ \t]*(?:\n|$)", text):
        mistakes.note(
            file, 1, "has no front matter; begin with the lines ---, subject: ..., and ---"
        )
        return None
    handler = YAMLHandler()
    try:
        matter, body = frontmatter.parse(text, handler=handler)
        keys = yaml.compose(handler.split(text)[0], Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        mistakes.note(
            file,
            mark.line + 1 if mark else None,
            f"front matter is no YAML: {error.problem}; put texts with : # {{ or }} in quotes",
        )
        return None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        mistakes.note(file, None, f"front matter is no YAML: {reason}; put texts in quotes")
        return None
    before = len(mistakes)
    _refuse_repeated(file, keys, mistakes)
    _check_front_matter(file, text, matter, number, mistakes)
    if not body:
        mistakes.note(file, None, "has no text; write it below the front matter")
    if len(mistakes) > before:
        return None
    step = _make_step(number, matter, body)
    first_line = text[: len(text) - len(body)].count("\n") + 1
    for part, mistake in find_step_mistakes(step, values):
        if part == "body":
            mistakes.note(file, first_line + mistake.line - 1, mistake.text)
        else:
            mistakes.note(file, _line_of(text, part), f"{part}: {mistake.text}")
    return step


def _refuse_repeated(file: str, front_matter: yaml.Node | None, mistakes: _Mistakes) -> None:
    """YAML itself takes the last one."""
    seen = set[str]()
    for key, _ in front_matter.value if isinstance(front_matter, yaml.MappingNode) else ():
        if key.value in seen:
            # Its first line is the one of the dashes.
            line = key.start_mark.line + 1
            mistakes.note(file, line, f"{key.value} stands here a second time; leave one")
        seen.add(key.value)


def _check_front_matter(
    file: str, text: str, matter: Mapping[str, Any], number: int, mistakes: _Mistakes
) -> None:
    _refuse_unknown(file, text, matter, STEP_KEYS, mistakes)
    if "subject" not in matter:
        mistakes.note(file, None, "has no subject; write one in the front matter")
    for key in ("subject", "preheader", "text"):
        if key in matter and (not isinstance(matter[key], str) or not matter[key].strip()):
            mistakes.note(file, _line_of(text, key), f"{key} is no text; put it in quotes")
    subject = matter.get("subject")
    if isinstance(subject, str) and len(subject) > LONGEST_VALUE and "{" not in subject:
        mistakes.note(
            file, _line_of(text, "subject"), f"subject is longer than {LONGEST_VALUE} characters"
        )
    delay = matter.get("delay_days", 1)
    line = _line_of(text, "delay_days")
    if number == 1 and delay in (0, 1):
        return
    written = re.search(r"^delay_days:[ \t]*([^\s#]*)", text, re.MULTILINE)
    # YAML itself reads 1:30 as 90.
    is_plain = "delay_days" not in matter or (written is not None and written[1].isdigit())
    if type(delay) is not int or not is_plain or not 1 <= delay <= LONGEST_DELAY_DAYS:
        mistakes.note(
            file, line, f"delay_days is not a whole number from 1 to {LONGEST_DELAY_DAYS}"
        )
    elif number == 1:
        mistakes.note(
            file, line, "delay_days: the first message leaves when the lead starts; leave it out"
        )


def _make_step(number: int, matter: Mapping[str, Any], body: str) -> Step:
    return Step(
        number=number,
        subject=" ".join(matter["subject"].split()),
        markdown=body,
        delay_days=matter.get("delay_days") or 1,  # 0 is what the first one may say
        preheader=matter.get("preheader"),
        plain_text=matter.get("text"),
    )
