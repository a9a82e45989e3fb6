"""The event loops that are compared, by name.

Owns how each is made and why one cannot be. Knows nothing about measuring.
"""

import asyncio
import importlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Where the package is: of a checkout, or of what is installed.
ROOT = Path(__file__).resolve().parents[3]


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
    # The recipe of the loop below, which `factory` is called with: some peers change another's.
    over: str | None = None

    @property
    def layers(self) -> "tuple[Recipe, ...]":
        """This one and those below, the lowest first."""
        return (*RECIPES[self.over].layers, self) if self.over else (self,)

    @property
    def whole_environment(self) -> dict[str, str]:
        """What is set before all of it is imported."""
        return {name: text for each in self.layers for name, text in each.environment.items()}

    @property
    def imports(self) -> str:
        """The statement that imports all of it."""
        return "import " + ", ".join(recipe.module for recipe in self.layers)

    @property
    def expression(self) -> str:
        """What makes the loop, after the imports."""
        inner = RECIPES[self.over].expression if self.over else ""
        return f"{self.module}.{self.factory}({inner})"


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
    "aiofastnet": Recipe(
        "aiofastnet", "aiofastnet over uvloop", factory="patch_loop", over="uvloop"
    ),
    "aiofastnet_uring": Recipe(
        "aiofastnet", "aiofastnet over uring_loop", factory="patch_loop", over="uring"
    ),
}

OURS = ("selector", "uring")
STANDARD = ("asyncio", "uvloop", "selector", "uring")
PEERS = ("zloop", "blazio", "rloop", "talyn", "aiofastnet", "aiofastnet_uring")


def create(name: str) -> asyncio.AbstractEventLoop:
    """Make the loop called `name`, or raise Unavailable with the reason."""
    recipe = RECIPES.get(name)
    if recipe is None:
        raise Unavailable(f"no loop is called {name!r}; known: {', '.join(RECIPES)}")
    below = () if recipe.over is None else (create(recipe.over),)
    os.environ.update(recipe.environment)
    try:
        module = importlib.import_module(recipe.module)
        loop: asyncio.AbstractEventLoop = getattr(module, recipe.factory)(*below)
    except (ImportError, OSError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise Unavailable(f"{name}: {error or type(error).__name__}") from error
    driver = getattr(loop, "driver", None)
    if recipe.driver is not None and driver != recipe.driver:
        loop.close()
        raise Unavailable(f"{name}: asked for the {recipe.driver} driver and got {driver}")
    return loop


def installed(name: str) -> bool:
    """Whether the loop's module can be found, without importing it."""
    layers = RECIPES[name].layers
    return all(importlib.util.find_spec(recipe.module) is not None for recipe in layers)


def defaults() -> list[str]:
    """The loops a comparison takes when none is named: ours, the rivals and peers here."""
    return [*STANDARD, *(name for name in PEERS if installed(name))]
