"""From the values of attributes to groups: sex, age, skin type, and every combination of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence

import pandas as pd

from trainables.data.base import DataConfig
from trainables.data.darken import TONE, tone_groups, with_melanin
from trainables.errors import UserError

Groups = tuple[list[str | None], tuple[str, ...]]
"""The group of each row, None where unknown, and the names of all groups in their order."""

UNKNOWN = ("", "unknown", "unk", "nan", "na", "n/a", "none", "null", "-1")
SEXES = ("female", "male")
TYPES = ("I", "II", "III", "IV", "V", "VI")
LIGHT_DARK: dict[str, tuple[int, ...]] = {"light": (1, 2, 3), "dark": (4, 5, 6)}
SIX: dict[str, tuple[int, ...]] = {name: (number,) for number, name in enumerate(TYPES, 1)}
MAX_GROUPS = 50
NUM_NAMED = 5


def attribute_parts(attribute: str, whole: Collection[str] = ()) -> tuple[str, ...]:
    """The attributes that ``a+b`` combines; a name in ``whole`` is one attribute as it stands."""
    if attribute in whole:
        return (attribute,)
    return tuple(part.strip() for part in attribute.split("+"))


def add_groups(
    rows: pd.DataFrame,
    config: DataConfig,
    groups_of: Callable[[str], Groups],
    whole: Collection[str] = (),
) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Add the columns ``group`` and, for each further attribute, ``group:<attribute>``.

    Args:
        rows: one line an image.
        config: names the attributes; ``a+b`` is the attribute whose groups are the combinations
            of those of a and b that occur, named ``<group of a>+<group of b>``.
        groups_of: the groups of the rows by one plain attribute.
        whole: names with a + in them that are one attribute.

    Returns:
        (rows with these columns, the sensitive attribute's groups, those of each further one).

    Raises:
        UserError: a combination with less than 2 or more than 50 groups.
    """
    if config.darken is not None:
        rows = with_melanin(rows, config.darken)

    def known(name: str) -> Groups:
        made = config.darken is not None and name == TONE
        return tone_groups(rows) if made else groups_of(name)

    names = {}
    for attribute in (config.attribute, *config.further_attributes):
        parts = attribute_parts(attribute, whole)
        group_of_row, names[attribute] = (
            known(parts[0]) if len(parts) == 1 else _combined(attribute, parts, known)
        )
        column = "group" if attribute == config.attribute else f"group:{attribute}"
        rows = rows.assign(**{column: pd.Series(group_of_row, index=rows.index, dtype=object)})
    return rows, names.pop(config.attribute), names


def _combined(
    attribute: str, parts: Sequence[str], groups_of: Callable[[str], Groups]
) -> Groups:
    each = [groups_of(part) for part in parts]
    group_of_row = [
        None if None in values else "+".join(map(str, values))
        for values in zip(*(groups for groups, _ in each), strict=True)
    ]
    occurring = set(group_of_row)
    names = ["+".join(combination) for combination in itertools.product(*(n for _, n in each))]
    found = tuple(name for name in names if name in occurring)
    if not 2 <= len(found) <= MAX_GROUPS:
        raise UserError(
            f"data.attribute: {attribute!r} makes {len(found)} groups, "
            f"2 to {MAX_GROUPS} are possible"
        )
    return group_of_row, found


def sex_groups(values: Sequence[str], problems: list[str], what: str = "sex") -> Groups:
    """Female and male in any case; other words than unknown ones are added to ``problems``."""
    groups = [None if value.lower() in UNKNOWN else value.lower() for value in values]
    _note_strange(problems, what, {group for group in groups if group} - set(SEXES))
    return groups, SEXES


def age_groups(values: Sequence[str], threshold: int, problems: list[str]) -> Groups:
    """Younger than ``threshold`` years, and the others; strange values go to ``problems``."""
    younger, older = f"under_{threshold}", f"{threshold}_and_over"
    strange: set[str] = set()
    ages = [years(value, strange) for value in values]
    _note_strange(problems, "age", strange)
    return [None if age is None else older if age >= threshold else younger for age in ages], (
        younger,
        older,
    )


def years(value: str, strange: set[str]) -> float | None:
    """An age in years, None where unknown; what is no number is added to ``strange``."""
    if value.lower() in UNKNOWN:
        return None
    try:
        return float(value)
    except ValueError:
        strange.add(value)
        return None


def named_groups(values: Sequence[str]) -> Groups:
    """Each value that occurs is a group, in lower case and in alphabetical order."""
    groups = [None if value.lower() in UNKNOWN else value.lower() for value in values]
    return groups, tuple(sorted({group for group in groups if group}))


def type_groups(
    values: Sequence[str],
    bins: Mapping[str, Sequence[int]],
    problems: list[str],
    unknown_as: str | None = None,
) -> Groups:
    """Groups of Fitzpatrick skin types 1 to 6 (Fitzpatrick 1988).

    Args:
        values: types as text, ``3`` or ``3.0``; unknown words and -1 are unknown.
        bins: name of each group and its types; a type in none of them is unknown.
        problems: other values are added to it.
        unknown_as: group that takes images whose type is not known.
    """
    group_of = {float(number): name for name, types in bins.items() for number in types}
    groups: list[str | None] = []
    strange: set[str] = set()
    for value in values:
        number = years(value, strange)
        if number is None:
            groups.append(unknown_as)
            continue
        if number not in (1, 2, 3, 4, 5, 6):
            strange.add(value)
        groups.append(group_of.get(number))
    _note_strange(problems, "skin type", strange)
    return groups, tuple(bins)


def _note_strange(problems: list[str], what: str, values: set[str]) -> None:
    if values:
        shown = ", ".join(map(repr, sorted(values)[:NUM_NAMED]))
        more = ", ..." if len(values) > NUM_NAMED else ""
        problems.append(f"unknown {what}: {shown}{more}")


def refuse(problems: Sequence[str], place: str) -> None:
    """One error of all that was found.

    Raises:
        UserError: ``problems`` is not empty.
    """
    if problems:
        raise UserError(f"{'; '.join(dict.fromkeys(problems))} ({place})")
