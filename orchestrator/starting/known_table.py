"""Tables of the published data sets, by their columns: they have loaders of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

COLUMNS: Mapping[str, tuple[frozenset[str], ...]] = {
    "ham10000": (frozenset({"lesion_id", "image_id", "dx", "dx_type"}),),
    "isic2019": (
        frozenset({"image", "age_approx", "anatom_site_general", "lesion_id"}),
        frozenset({"image", "MEL", "NV", "BCC", "SCC", "UNK"}),
    ),
    "fitzpatrick17k": (
        frozenset({"md5hash", "label", "nine_partition_label"}),
        frozenset({"hasher", "label", "nine_partition_label"}),
    ),
    "pad_ufes_20": (frozenset({"img_id", "fitspatrick", "diagnostic"}),),
}
"""Data set -> columns, any of these sets of which tells its table."""


def known_table(columns: Iterable[str], table: Path) -> str | None:
    """What to say of a table that a built-in data set reads; None: it is of none.

    Args:
        columns: of the table.
        table: its file, whose folder stands for the data set's.
    """
    present = set(columns)
    for name, told in COLUMNS.items():
        if any(wanted <= present for wanted in told):
            return (
                f"this is a table of {name}, which has a loader of its own (splits, groups, "
                f"nested folders): fatefront data inspect '{{name: {name}, root: {table.parent}}}'"
            )
    return None
