"""PURE: which column of a spreadsheet becomes what of a lead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyperdrip.errors import InvalidDataError

KNOWN = ("name", "email", "phone", "notes")
# The columns that an error file adds; a mended one is fed back as it is.
FAULT = ("line", "column", "value", "reason")


@dataclass(frozen=True)
class Columns:
    """Positions of the cells that make up each part of a lead, and each further field."""

    header: tuple[str, ...]
    parts: Mapping[str, tuple[int, ...]]
    fields: Mapping[str, tuple[int, ...]]

    def read(self, cells: Sequence[str]) -> dict[str, str]:
        """The parts of a lead that a row has, by name; several cells are joined by a blank."""
        return {part: _join(cells, places) for part, places in self.parts.items()}

    def read_fields(self, cells: Sequence[str]) -> dict[str, str]:
        """The further fields of a row that are not empty."""
        found = {name: _join(cells, places) for name, places in self.fields.items()}
        return {name: text for name, text in found.items() if text}

    def describe(self, part: str) -> tuple[str, tuple[int, ...]]:
        """What the file calls a part or field, and where its cells are."""
        places = self.parts.get(part) or self.fields.get(part) or ()
        return "+".join(self.header[place] for place in places) or part, places


def match(source: str, header: Sequence[str], mapping: Mapping[str, str]) -> Columns:
    """Match a header (in any letter case) and `mapping` (what it becomes -> columns) to a lead.

    A mapping names one column, or several with + between them. Columns that nobody names become
    fields. Raises: InvalidDataError when a column is missing.
    """
    place_of = {name.lower(): place for place, name in enumerate(header) if name}
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
    ignored = set(range(len(header) - 4, len(header))) if _is_error_file(header) else set()
    for place, name in enumerate(header):
        if name and place not in used and place not in ignored:
            fields.setdefault(name, (place,))
    return Columns(tuple(header), parts, fields)


def parse_mapping(texts: Sequence[str]) -> dict[str, str]:
    """Read `email=E-Mail Address` and its like. Raises: InvalidDataError."""
    mapping: dict[str, str] = {}
    for text in texts:
        target, equals, columns = text.partition("=")
        if not equals or not target.strip() or not columns.strip():
            raise InvalidDataError(f'map {text!r} is not of the form email="E-Mail Address"')
        mapping[target.strip()] = columns
    return mapping


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


def _is_error_file(header: Sequence[str]) -> bool:
    return tuple(name.lower() for name in header[-4:]) == FAULT


def _list(header: Sequence[str]) -> str:
    return ", ".join(name for name in header if name)[:200] or "nothing"


def _join(cells: Sequence[str], places: Sequence[int]) -> str:
    if len(places) == 1:
        return cells[places[0]]
    return " ".join(text for place in places if (text := cells[place].strip()))
