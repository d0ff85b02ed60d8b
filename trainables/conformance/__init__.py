"""The conformance kit: what every registered part must hold, ours and third parties' alike.

Each module has ``CHECKS``, a tuple of functions of a part's config that raise ``NotConforming``;
a package with a part of its own runs them in its tests::

    import pytest
    from trainables.conformance.criteria import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_criterion(check):
        check(MyCriterion.Config(strength=2.0))
"""

from __future__ import annotations

import json

from trainables.registry import Registry
from trainables.specs import Spec, canonical


class NotConforming(AssertionError):
    """A part does not keep a promise that the rest of the program relies on."""


def require(condition: bool, message: str) -> None:
    """Raise unless the condition holds (``assert`` would be gone under ``python -O``).

    Raises:
        NotConforming: it does not.
    """
    if not condition:
        raise NotConforming(message)


def check_config(registry: Registry, config: Spec) -> None:
    """The config is found by its name, prints, reads back as itself and has a canonical form.

    Raises:
        NotConforming: one of these fails.
    """
    name = getattr(config, "name", None)
    require(isinstance(name, str), f"the config of a {registry.kind} needs a field `name`")
    cls = registry.get(str(name))
    require(
        type(config) is cls.Config, f"{registry.kind} {name!r} is registered with another Config"
    )
    require(cls.name == name, f"{registry.kind} {name!r} calls itself {cls.name!r}")
    printed = json.loads(config.model_dump_json())
    require(
        cls.Config.model_validate(printed) == config,
        f"{name}: {printed} reads back as another config",
    )
    try:
        text = json.dumps(canonical(config), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise NotConforming(f"{name}: no canonical form as JSON ({error})") from None
    require(json.loads(text).get("name") == name, f"{name}: the canonical form lacks the name")
