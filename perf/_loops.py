"""The event loops that are compared, by name.

Owns how each is made and why one cannot be. Knows nothing about measuring.
"""

import asyncio
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if importlib.util.find_spec("uring_loop") is None:
    # A checkout that was built in place and not installed.
    sys.path.insert(0, str(ROOT))


class Unavailable(RuntimeError):
    """This loop cannot run here; the message says why."""


@dataclass(frozen=True)
class Recipe:
    """How one loop is made."""

    module: str
    description: str
    # The name in the module of what makes one.
    factory: str = "new_event_loop"
    # Set before the module is imported: peers read their settings then.
    environment: Mapping[str, str] = field(default_factory=dict)
    # What loop.driver must answer, so that a fallback is never measured as a ring.
    driver: str | None = None


RECIPES: dict[str, Recipe] = {
    "asyncio": Recipe("asyncio", "stock asyncio on epoll"),
    "uvloop": Recipe("uvloop", "uvloop (libuv on epoll)"),
    "selector": Recipe(
        "uring_loop",
        "uring_loop on its selector driver",
        environment={"URING_LOOP_DRIVER": "selector"},
        driver="selector",
    ),
    "uring": Recipe(
        "uring_loop",
        "uring_loop on io_uring",
        environment={"URING_LOOP_DRIVER": "uring"},
        driver="uring",
    ),
    "zloop": Recipe(
        "zloop",
        "zloop, io_uring completions",
        environment={"ZLOOP_IO_URING": "completion"},
    ),
    "blazio": Recipe("blazio", "blazio"),
    "rloop": Recipe("rloop", "rloop"),
    "talyn": Recipe("talyn", "talyn", factory="Loop"),
}

OURS = ("selector", "uring")
STANDARD = ("asyncio", "uvloop", "selector", "uring")
PEERS = ("zloop", "blazio", "rloop", "talyn")


def create(name: str) -> asyncio.AbstractEventLoop:
    """Make the loop called `name`, or raise Unavailable with the reason."""
    recipe = RECIPES.get(name)
    if recipe is None:
        raise Unavailable(f"no loop is called {name!r}; known: {', '.join(RECIPES)}")
    os.environ.update(recipe.environment)
    try:
        module = importlib.import_module(recipe.module)
        loop: asyncio.AbstractEventLoop = getattr(module, recipe.factory)()
    except (ImportError, OSError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise Unavailable(f"{name}: {error or type(error).__name__}") from error
    driver = getattr(loop, "driver", None)
    if recipe.driver is not None and driver != recipe.driver:
        loop.close()
        raise Unavailable(f"{name}: asked for the {recipe.driver} driver and got {driver}")
    return loop


def installed(name: str) -> bool:
    """Whether the loop's module can be found, without importing it."""
    return importlib.util.find_spec(RECIPES[name].module) is not None


def defaults() -> list[str]:
    """The loops a comparison takes when none is named: ours, the rivals and peers here."""
    return [*STANDARD, *(name for name in PEERS if installed(name))]
