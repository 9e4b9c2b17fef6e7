"""Hyperdrip: lead drip campaigns on PostgreSQL and PGMQ.

>>> from hyperdrip import Hyperdrip
>>> with Hyperdrip.open() as drip:
...     lead = drip.add_lead(name="Ada", email="ada@example.com")
"""

from typing import TYPE_CHECKING, Any

from hyperdrip.errors import HyperdripError
from hyperdrip.models import Selection

if TYPE_CHECKING:
    from hyperdrip.client import Hyperdrip

__all__ = ["Hyperdrip", "HyperdripError", "Selection"]


def __getattr__(name: str) -> Any:
    """Import the library door when it is first asked for: `--help` needs no database driver."""
    if name == "Hyperdrip":
        from hyperdrip.client import Hyperdrip

        return Hyperdrip
    raise AttributeError(f"module 'hyperdrip' has no attribute {name!r}")
