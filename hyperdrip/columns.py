"""PURE: which column of a spreadsheet becomes what of a lead, and the other way round."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyperdrip.errors import InvalidDataError, SettingsError

KNOWN = ("name", "email", "phone", "notes")
# The columns that an error file adds; a mended one is fed back as it is.
FAULT = ("line", "column", "value", "reason")
LONGEST_FIELD_NAME = 60
# How the columns begin that an export adds: where a lead stands. Importing leaves them out.
OWN = "hyperdrip "
# What a spreadsheet takes for a formula, and what looks like one after an export.
FORMULA = re.compile("'*[=+\\-@\t\r]")
NUMBERED = re.compile(r"field \d+: (.+)")


@dataclass(frozen=True)
class Columns:
    """Positions of the cells that make up each part of a lead, and each further field.

    `is_export`: the file was written by an export, so what that neutralised is put right.
    """

    header: tuple[str, ...]
    parts: Mapping[str, tuple[int, ...]]
    fields: Mapping[str, tuple[int, ...]]
    is_export: bool = False

    def read(self, cells: Sequence[str]) -> dict[str, str]:
        """The parts of a lead that a row has, by name; several cells are joined by a blank."""
        return {part: self._join(cells, places) for part, places in self.parts.items()}

    def read_fields(self, cells: Sequence[str]) -> dict[str, str]:
        """The further fields of a row that are not empty."""
        found = {name: self._join(cells, places) for name, places in self.fields.items()}
        return {name: text for name, text in found.items() if text}

    def describe(self, part: str) -> tuple[str, tuple[int, ...]]:
        """What the file calls a part or field, and where its cells are."""
        places = self.parts.get(part) or self.fields.get(part) or ()
        return "+".join(self.header[place] for place in places) or part, places

    def _join(self, cells: Sequence[str], places: Sequence[int]) -> str:
        texts = [restore(cells[place]) if self.is_export else cells[place] for place in places]
        return texts[0] if len(texts) == 1 else " ".join(filter(None, map(str.strip, texts)))


def match(source: str, header: Sequence[str], mapping: Mapping[str, str]) -> Columns:
    """Match a header (in any letter case) and `mapping` (what it becomes -> columns) to a lead.

    A mapping names one column, or several with + between them. Columns that nobody names become
    fields. Raises: InvalidDataError when a column is missing.
    """
    is_export = any(name.startswith(OWN) for name in header)
    if is_export:
        header = [_exported_name(name) for name in header]
    own = header[: -len(FAULT)] if is_error_file(header) else header
    # The first of a name counts: in an export a further field may be called like a part.
    place_of: dict[str, int] = {}
    for place, name in enumerate(own):
        if name:
            place_of.setdefault(name.lower(), place)
    used: set[int] = set()
    parts: dict[str, tuple[int, ...]] = {}
    fields: dict[str, tuple[int, ...]] = {}
    for target, columns in mapping.items():
        places = _places(source, header, place_of, columns)
        used.update(places)
        if target.lower() in KNOWN:
            parts[target.lower()] = places
        else:
            fields[target] = places
    for part in KNOWN:
        if part not in parts and part in place_of and place_of[part] not in used:
            parts[part] = (place_of[part],)
            used.add(place_of[part])
    for needed in ("name", "email"):
        if needed not in parts:
            raise InvalidDataError(
                f"{source!r} has no column {needed!r}; it has: {_list(header)};"
                f' to say which it is: --map {needed}="COLUMN"'
            )
    for place, name in enumerate(own):
        if name and place not in used:
            numbered = NUMBERED.fullmatch(name) if is_export else None
            fields.setdefault(numbered[1] if numbered else name, (place,))
    _check_field_names(source, fields)
    return Columns(tuple(header), parts, fields, is_export)


def is_error_file(header: Sequence[str]) -> bool:
    """Are the last columns those that an error file adds? They are about the row, not of it."""
    return tuple(name.lower() for name in header[-len(FAULT) :]) == FAULT


def export_header(field_names: Sequence[str], own: Sequence[str]) -> list[str]:
    """The header of an export: the parts of a lead, its fields, and `own` columns.

    A field whose name a header cannot hold as it is gets a number before it: one that is called
    like another column in some letter case.
    """
    taken = set(KNOWN)
    header = list(KNOWN)
    for number, name in enumerate(field_names, start=1):
        is_free = name.lower() not in taken and not NUMBERED.fullmatch(name)
        is_free = is_free and not name.lower().startswith(OWN)
        taken.add(name.lower())
        header.append(neutralise(name) if is_free else f"field {number}: {name}")
    return [*header, *(f"{OWN}{name}" for name in own)]


def neutralise(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: with an apostrophe before it if need be."""
    return f"'{text}" if FORMULA.match(text) else text


def restore(text: str) -> str:
    """What a cell was before `neutralise`."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def parse_mapping(texts: Sequence[str]) -> dict[str, str]:
    """Read `email=E-Mail Address` and its like. Raises: SettingsError."""
    mapping: dict[str, str] = {}
    for text in texts:
        target, equals, columns = text.partition("=")
        if not equals or not target.strip() or not columns.strip():
            raise SettingsError(f'map {text!r} is not of the form email="E-Mail Address"')
        if target.strip().lower() in {known.lower() for known in mapping}:
            raise SettingsError(
                f"map {text!r} says a second time what {target.strip()!r} is; join columns with +"
            )
        mapping[target.strip()] = columns
    return mapping


def _check_field_names(source: str, fields: Mapping[str, object]) -> None:
    """Said once for the file: it would be wrong with every row."""
    for name in fields:
        if len(name) > LONGEST_FIELD_NAME:
            raise InvalidDataError(
                f"{source!r} has a column whose name is longer than {LONGEST_FIELD_NAME}"
                f' characters; give it a shorter one: --map SHORT="{name[:200]}"'
            )


def _places(
    source: str, header: Sequence[str], place_of: Mapping[str, int], columns: str
) -> tuple[int, ...]:
    whole = _plain(columns)
    if whole in place_of:  # a name that has a + in it
        return (place_of[whole],)
    places = []
    for name in columns.split("+"):
        if _plain(name) not in place_of:
            raise InvalidDataError(
                f"{source!r} has no column {name.strip()!r}; it has: {_list(header)}"
            )
        places.append(place_of[_plain(name)])
    return tuple(places)


def _plain(name: str) -> str:
    return " ".join(name.strip().strip('"').split()).lower()


def _exported_name(name: str) -> str:
    """What a column of an export was called; empty for those that are left out."""
    return "" if name.startswith(OWN) else restore(name)


def _list(header: Sequence[str]) -> str:
    return ", ".join(name for name in header if name)[:200] or "nothing"
