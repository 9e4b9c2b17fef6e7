"""The library door: everything that the commands do, as methods of one object.

>>> from hyperdrip import Hyperdrip
>>> with Hyperdrip.open() as drip:
...     lead = drip.add_lead(name="Ada", email="ada@example.com")
...     drip.audit()

Each file has a part of the methods, and is a door of its own for who needs no more than that.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperdrip.client.door import Hyperdrip

__all__ = ["Hyperdrip"]


def __getattr__(name: str) -> Any:
    """Import the whole door when it is first asked for: a part of it is here much sooner."""
    if name == "Hyperdrip":
        from hyperdrip.client.door import Hyperdrip

        return Hyperdrip
    raise AttributeError(f"module 'hyperdrip.client' has no attribute {name!r}")
