"""What can be chosen for a training: the inputs of the trainer nodes, and the keys of the file that run.py is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .loop import Optimisation
from .lora import TARGETS, LoRASettings
from .schedule import CONSTANT, SCHEDULES
from .session import Settings

MANY = 10**7
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list of texts"}


@dataclass(frozen=True)
class Option:
    """A value of the type of its ``default``, within limits, or one of its choices. Without a default it is a text that
    has to be given."""

    default: bool | int | float | str | tuple[str, ...] | None
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()

    @property
    def kind(self) -> type:
        return str if self.default is None else type(self.default)

    def allows(self, value: Any) -> bool:
        """Whether a value read from JSON is one that can be chosen."""
        if self.choices:
            return value in self.choices
        if self.kind in (int, float):
            whole = isinstance(value, int) and not isinstance(value, bool)
            number = whole or self.kind is float and isinstance(value, float)
            return number and self.least <= value <= self.most
        if self.kind is tuple:
            return isinstance(value, list) and all(isinstance(each, str) for each in value)
        return isinstance(value, self.kind)

    @property
    def allowed(self) -> str:
        """What can be chosen, in words."""
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        limits = f" from {self.least} to {self.most}" if self.kind in (int, float) else ""
        return _KINDS[self.kind] + limits


SHARED: dict[str, Option] = {
    "name": Option("trained"),
    "steps": Option(2000, 1, MANY),
    "batch": Option(1, 1, 1024),
    "accumulate": Option(4, 1, 1024),
    "rank": Option(32, 1, 1024),
    "alpha": Option(32.0, 0.01, 1024.0),
    "targets": Option("attention", choices=tuple(TARGETS)),
    "learning_rate": Option(1e-4, 1e-9, 1.0),
    "schedule": Option(CONSTANT, choices=SCHEDULES),
    "warm_up": Option(0, 0, MANY),
    "clip_norm": Option(1.0, 0.0, 1000.0),
    "seed": Option(0, 0, 2**64 - 1),
    "checkpointing": Option(True),
    "save_every": Option(200, 0, MANY),
    "preview_every": Option(100, 0, MANY),
    "preview_prompts": Option(()),
}
"""Those of every method, which may have other defaults."""


def chosen_of(given: Mapping[str, Any], options: Mapping[str, Option]) -> dict[str, Any]:
    """The value of every option: that given, as it was read from JSON, or the default.

    Raises:
        ValueError: one is unknown, missing or not allowed; the message lists what there is.
    """
    unknown = [name for name in given if name not in options]
    missing = [name for name, option in options.items() if option.default is None and name not in given]
    if unknown or missing:
        wrong = [f'"{name}" is unknown' for name in unknown] + [f'"{name}" is missing' for name in missing]
        raise ValueError(f"{', '.join(wrong)}. There are: {', '.join(map(_told, options.items()))}.")
    for name, value in given.items():
        if not options[name].allows(value):
            raise ValueError(f'"{name}" is {value!r}. It must be {options[name].allowed}.')
    return {name: option.kind(given.get(name, option.default)) for name, option in options.items()}


def _told(option: tuple[str, Option]) -> str:
    name, default = option[0], option[1].default
    if default is None:
        return f'"{name}" (has to be given)'
    return f'"{name}" ({list(default) if isinstance(default, tuple) else default!r})'


def settings_of(chosen: Mapping[str, Any]) -> Settings:
    """The settings of a training, of the values of the shared options."""
    return Settings(
        name=chosen["name"],
        lora=LoRASettings(chosen["rank"], chosen["alpha"], chosen["targets"]),
        optimisation=Optimisation(
            chosen["learning_rate"], chosen["schedule"], chosen["warm_up"], clip=chosen["clip_norm"]
        ),
        steps=chosen["steps"],
        batch=chosen["batch"],
        accumulate=chosen["accumulate"],
        seed=chosen["seed"],
        checkpointing=chosen["checkpointing"],
        save_every=chosen["save_every"],
        preview_every=chosen["preview_every"],
    )
