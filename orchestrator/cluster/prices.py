"""The price table: what a machine costs an hour."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError

SHIPPED = Path(__file__).parents[1] / "data" / "prices.csv"
COLUMNS = ("provider", "region", "machine", "market", "usd_per_hour", "as_of")
MARKETS = ("on_demand", "spot")
ANYWHERE = "*"
DISK, ADDRESS = "disk_gb", "public_ip"
UNCHECKED = "unchecked"
"""In place of a date: nobody has looked this price up."""


@dataclass(frozen=True)
class Price:
    """One row; US dollars an hour."""

    provider: str
    region: str
    machine: str
    market: str
    usd_per_hour: float
    as_of: str


class PriceTable:
    """The shipped rows, and those of the user's own file over them.

    Raises:
        UserError: no such file, other columns, or a price that is no number.
    """

    def __init__(self, own: Path | None = None) -> None:
        self._rows: dict[tuple[str, str, str, str], Price] = {}
        self.files = [SHIPPED.name, *([str(own)] if own else [])]
        for path in (SHIPPED, *([own] if own else [])):
            for row in _read(path):
                self._rows[row.provider, row.region, row.machine, row.market] = row

    def find(
        self, provider: str, region: str | None, machine: str, *, spot: bool = False
    ) -> Price | None:
        """The price in this region, or the one that holds anywhere.

        On Kubernetes the provider is whoever has a machine of that name.
        """
        market = MARKETS[spot]
        providers = [provider]
        if provider == "kubernetes":
            providers = sorted({row.provider for row in self._rows.values()})
        for name in providers:
            for place in (region or ANYWHERE, ANYWHERE):
                if row := self._rows.get((name, place, machine, market)):
                    return row
        return None


def _read(path: Path) -> list[Price]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [(n, line) for n, line in enumerate(file, 1) if not line.startswith("#")]
    except OSError as error:
        raise UserError(f"--prices {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--prices {path} is not a text file") from None
    return list(_rows(path, lines))


def _rows(path: Path, lines: list[tuple[int, str]]) -> Iterable[Price]:
    numbers = [number for number, _ in lines]
    reader = csv.DictReader(line for _, line in lines)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"--prices {path} has no column {', '.join(missing)}")
    for index, row in enumerate(reader):
        place = f"--prices {path}:{numbers[min(index + 1, len(numbers) - 1)]}"
        if None in row.values() or None in row:
            raise UserError(f"{place}: {len(COLUMNS)} values are needed")
        if row["market"] not in MARKETS:
            raise UserError(
                f"{place}: market must be one of {', '.join(MARKETS)} but is {row['market']!r}"
            )
        try:
            usd = float(row["usd_per_hour"])
        except ValueError:
            usd = math.nan
        if not 0 <= usd < math.inf:
            raise UserError(f"{place}: usd_per_hour is no price: {row['usd_per_hour']!r}")
        yield Price(
            row["provider"], row["region"], row["machine"], row["market"], usd, row["as_of"]
        )
