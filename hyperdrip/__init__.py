"""Hyperdrip: lead drip campaigns on PostgreSQL and PGMQ.

>>> from hyperdrip import Hyperdrip
>>> with Hyperdrip.open() as drip:
...     lead = drip.add_lead(name="Ada", email="ada@example.com")
"""

from typing import TYPE_CHECKING, Any

from hyperdrip.errors import HyperdripError

if TYPE_CHECKING:
    from hyperdrip.client import Hyperdrip
    from hyperdrip.models import Selection

__all__ = ["Hyperdrip", "HyperdripError", "Selection"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: `--help` needs no database driver, and no values."""
    if name == "Hyperdrip":
        from hyperdrip.client import Hyperdrip

        return Hyperdrip
    if name == "Selection":
        from hyperdrip.models import Selection

        return Selection
    raise AttributeError(f"module 'hyperdrip' has no attribute {name!r}")
