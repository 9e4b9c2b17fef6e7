"""Lists of addresses from somebody else: one a line, or a spreadsheet with a column of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hyperdrip.errors import InvalidDataError
from hyperdrip.lead_values import check_email
from hyperdrip.sheets import STRANGE_SPACES, Row, open_sheet

COLUMNS = ("email", "e-mail", "email address", "e-mail address", "mail", "address")


@dataclass(frozen=True)
class Addresses:
    """The addresses of a file, and a line for each row that has none that can be taken.

    `read`: how many rows there were; `notes`: what was detected.
    """

    found: tuple[str, ...]
    faults: tuple[str, ...]
    read: int
    notes: tuple[str, ...]


def read_addresses(source: str) -> Addresses:
    """Read a file; `-` is standard input. A first line without an address is a header.

    Raises: InvalidDataError when it is no such file, or no column can be told to be the address.
    """
    found, faults, read = dict[str, None](), list[str](), 0
    with open_sheet(source) as sheet:
        place, is_header = _find_column(source, sheet.header)
        for line, cells in _rows(sheet.header, sheet.rows, is_header=is_header):
            read += 1
            try:
                _check_width(cells, len(sheet.header))
                if not is_header:
                    _refuse_second(cells, place)
                found[check_email(STRANGE_SPACES.sub(" ", cells[place]))] = None
            except InvalidDataError as error:
                faults.append(f"line {line}: {error}")
    return Addresses(tuple(found), tuple(faults), read, tuple(sheet.notes))


def _check_width(cells: Sequence[str], width: int) -> None:
    """A row that was cut off may have half an address, and one that is too long a second one."""
    if len(cells) < width:
        raise InvalidDataError(
            f"{len(cells)} cells where the first line has {width}, and the file ends: it seems cut"
            " off"
        )
    if any("@" in cell for cell in cells[width:]):
        raise InvalidDataError("it has another address behind its last column; one a line")


def _refuse_second(cells: Sequence[str], place: int) -> None:
    """Nothing says what the columns are, so no address may be passed over."""
    if any("@" in cell for number, cell in enumerate(cells) if number != place):
        raise InvalidDataError(
            "it has more than one address; write one a line, or a first line that names the column"
            " email"
        )


def _rows(header: Sequence[str], rows: Iterator[Row], *, is_header: bool) -> Iterator[Row]:
    if not is_header:
        yield Row(1, list(header))
    yield from rows


def _find_column(source: str, header: Sequence[str]) -> tuple[int, bool]:
    """Which column has the addresses, and whether the first line is a header."""
    for place, cell in enumerate(header):
        if "@" in cell:
            return place, False
    names = [cell.lower() for cell in header]
    for name in COLUMNS:
        if name in names:
            return names.index(name), True
    raise InvalidDataError(
        f"{source!r} has no column email, and no address in its first line; name a column email"
    )
