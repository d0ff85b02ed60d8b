"""Named parts (baselines, criteria, data sets, backbones), found by name without importing the
rest.

A built-in is registered by the table at the end of this module (name -> module), so that asking
for one part never imports the others; a part of somebody else's package is found through an entry
point of the group ``fatefront.<kind>`` (for example ``fatefront.criteria``). The module registers
itself by the decorator when it is imported.
"""

import difflib
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from trainables import packages
from trainables.errors import UserError, shortened

T = TypeVar("T", bound=type)


class Registry:
    """One kind of part: ``register`` on the class, ``get`` by name."""

    def __init__(
        self, kind: str, group: str, builtin: dict[str, str], *, needs: str = "Config"
    ) -> None:
        """``needs``: what a class of another package must have."""
        self.kind = kind
        self.needs = needs
        self.group = group
        self._modules = dict(builtin)
        self._classes: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Class decorator: make the class known as ``name`` and set its ``name`` attribute."""

        def add(cls: T) -> T:
            if self._classes.setdefault(name, cls).__qualname__ != cls.__qualname__:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return add

    def names(self) -> list[str]:
        """All known names, entry points included, sorted."""
        found = packages.names(self.group)
        return sorted({*found, *self._modules, *self._classes})

    def builtin_names(self) -> list[str]:
        """Names of the parts that come with this package, sorted."""
        return sorted(self._modules)

    def get(self, name: str) -> Any:
        """The class registered as ``name``.

        Raises:
            UserError: no such part, and the message names the nearest known one; or a package
                that brings it is broken, and the message names the package.
        """
        if not isinstance(name, str):
            raise UserError(f"the name of a {self.kind} is text but got {shortened(name)}")
        if name not in self._classes:
            if name in self._modules:
                importlib.import_module(self._modules[name])
            elif (brought := packages.entry(self.kind, self.group, name)) is not None:
                self._classes[name] = packages.load(self.kind, brought, self.needs)
        if name not in self._classes:
            near = difflib.get_close_matches(name, self.names(), n=1)
            hint = (
                f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(self.names())})"
            )
            raise UserError(f"unknown {self.kind} {shortened(name)}{hint}")
        return self._classes[name]

    def package(self, name: str) -> str | None:
        """Name and version of the other package that brings this part; None for a built-in and
        for one that a file of the user's own registered.

        Part of the keys of nodes: two packages may use one name, and what a release changes is
        not known here.

        Raises:
            UserError: as ``get``.
        """
        if name in self._modules:
            return None
        own = self.get(name).__module__.partition(".")[0]
        brought = packages.entry(self.kind, self.group, name)
        if brought is None or brought.point.module.partition(".")[0] != own:
            return None
        return brought.release


datasets = Registry(
    "data set",
    "fatefront.datasets",
    {
        "fitzpatrick17k": "trainables.data.fitzpatrick17k",
        "ham10000": "trainables.data.ham10000",
        "isic2019": "trainables.data.isic2019",
        "pad_ufes_20": "trainables.data.pad_ufes_20",
        "synthetic": "trainables.data.synthetic",
        "table": "trainables.data.table",
    },
)
backbones = Registry(
    "backbone",
    "fatefront.backbones",
    {
        "resnet18": "trainables.models.resnet",
        "vgg11": "trainables.models.vgg",
        "vgg11_bn": "trainables.models.vgg",
    },
)
baselines = Registry(
    "baseline",
    "fatefront.baselines",
    {
        "adv_conf": "trainables.baselines.adv_conf",
        "adv_rev": "trainables.baselines.adv_rev",
        "domain_independent": "trainables.baselines.domain_independent",
        "fair_adabn": "trainables.baselines.fair_adabn",
        "fairprune": "trainables.baselines.fairprune",
        "group_dro": "trainables.baselines.group_dro",
        "hsic": "trainables.baselines.hsic",
        "mfd": "trainables.baselines.mfd",
        "multi_exit": "trainables.baselines.multi_exit",
        "obd": "trainables.baselines.obd",
        "vanilla": "trainables.baselines.vanilla",
    },
)
criteria = Registry(
    "criterion",
    "fatefront.criteria",
    {
        "fairprune": "trainables.pruning.fairprune",
        "hsic": "trainables.pruning.hsic",
        "magnitude": "trainables.pruning.magnitude",
        "none": "trainables.pruning.none",
        "obd": "trainables.pruning.obd",
        "random": "trainables.pruning.random",
        "skewness": "trainables.pruning.skewness",
        "snnl": "trainables.pruning.snnl",
        "taylor": "trainables.pruning.taylor",
    },
)
