"""Logits of an exported model for one's own table of images; what it writes, `fatefront evaluate`
reads.

Shape legend: N images, K classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape

from trainables.errors import UserError
from trainables.portable import softmax

if TYPE_CHECKING:
    import pandas as pd

    from trainables.portable import PortableModel

PREDICTION = "y_pred"


@dataclass(frozen=True)
class _Batch:
    """Decoded images of some rows, and why the others of the batch are left out."""

    rows: list[int]
    images: list[np.ndarray]
    problems: list[tuple[int, str]]


def predict(
    model_folder: Path | str,
    table: Path | str,
    *,
    output: Path | str | None = None,
    root: Path | str | None = None,
    image: str = "path",
    group: str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    workers: int = 4,
) -> dict[str, Any]:
    """Predict every image of a table and write the table back with the predictions beside its
    columns.

    The columns added are ``logit_<class>``, ``p_<class>`` (softmax; they add up to 1) and
    ``y_pred`` (name of the class with the highest logit). Images that cannot be read are named in
    the result and left out of the output.

    Args:
        model_folder: of `fatefront export`.
        table: CSV or Parquet, one row an image.
        output: ``.csv`` or ``.parquet``; ``<table>.predictions.parquet`` beside the table if not
            given.
        root: what image paths are relative to; the table's folder if not given.
        image: the column of image paths.
        group: the column of group names, for models that need the group to predict.
        batch_size: images at once.
        device: ``auto`` takes the GPU where there is one.
        workers: threads that decode.

    Returns:
        A document of ``schemas/predict.json``.

    Raises:
        UserError: no such model, file or column, columns that would be overwritten, not one usable
            image.
    """
    from trainables.portable import load_portable

    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1 but got {batch_size}")
    table = Path(table)
    output = _output(table, output)
    model = load_portable(model_folder, _device(device))
    frame = _read(table)
    added = [
        *(f"logit_{c}" for c in model.classes),
        *(f"p_{c}" for c in model.classes),
        PREDICTION,
    ]
    _check_columns(frame, image, added, table)
    group_N = _groups(frame, group, model, table)
    folder = Path(root) if root is not None else table.parent
    paths = frame[image].tolist()
    rows: list[int] = []
    parts: list[np.ndarray] = []
    problems: list[tuple[int, str]] = []
    for batch in _batches(paths, folder, model.geometry, batch_size, workers):
        problems += batch.problems
        if batch.rows:
            groups = None if group_N is None else group_N[batch.rows]
            parts.append(model.logits(np.stack(batch.images), groups, batch_size=batch_size))
            rows += batch.rows
    if not rows:
        raise UserError(
            f"not one of the {len(paths)} images of {table} can be read; the first: "
            f"{problems[0][1]} "
            f"({paths[problems[0][0]]!r} under {folder}; --root names another folder)"
        )
    _write(_with_predictions(frame.iloc[rows], np.concatenate(parts), model.classes), output)
    return {
        "model": str(model_folder),
        "key": model.card.key,
        "classes": list(model.classes),
        "table": str(table),
        "output": str(output),
        "columns": added,
        "device": model.device,
        "num_rows": len(paths),
        "num_predicted": len(rows),
        "num_skipped": len(problems),
        "skipped": [
            {"row": row + 1, "image": str(paths[row]), "reason": reason}
            for row, reason in problems
        ],
    }


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {device}: this machine has no usable GPU")
    return device


def _output(table: Path, output: Path | str | None) -> Path:
    if output is None:
        return table.with_suffix(".predictions.parquet")
    path = Path(output)
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"--to must end in .csv or .parquet but got {str(path)!r}")
    if path.exists() and table.exists() and path.samefile(table):
        raise UserError(f"--to {path} is the table itself; choose another file")
    if not path.parent.is_dir():
        raise UserError(f"--to {path}: no such folder {str(path.parent)!r}")
    return path


def _read(table: Path) -> pd.DataFrame:
    """The table; CSV as text, so that what is passed through comes out as it was."""
    import pandas as pd

    try:
        with table.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            frame = pd.read_parquet(table)
        else:
            frame = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no file {table}") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{table} is empty") from None
    except (
        OSError,
        ValueError,
    ) as error:  # pandas' and pyarrow's errors of parsing are ValueErrors
        raise UserError(
            f"cannot read {table} as CSV or Parquet: {' '.join(str(error).split())}"
        ) from None
    if not len(frame):
        raise UserError(f"{table} has no rows")
    return frame


def _check_columns(frame: pd.DataFrame, image: str, added: list[str], table: Path) -> None:
    _check_named(frame, image, "image", table)
    taken = [name for name in added if name in frame.columns]
    if taken:
        raise UserError(
            f"{table} already has the column {taken[0]!r}, which would be overwritten: rename it"
        )


def _check_named(frame: pd.DataFrame, column: str, option: str, table: Path) -> None:
    if column in frame.columns:
        return
    near = difflib.get_close_matches(column, [str(c) for c in frame.columns], n=1)
    hint = (
        f", did you mean {near[0]!r}?"
        if near
        else f" (it has: {', '.join(map(str, frame.columns))})"
    )
    raise UserError(f"{option}: no column {column!r} in {table}{hint}")


def _groups(
    frame: pd.DataFrame, group: str | None, model: PortableModel, table: Path
) -> np.ndarray | None:
    """Number of each row's group among the model's; None for a model that reads no groups.

    Raises:
        UserError: no column, or rows without a group of the model's.
    """
    if not model.needs_group:
        return None
    if group is None:
        raise UserError(
            f"baseline {model.card.trial.baseline.name} needs each image's "
            f"{model.card.attribute or 'group'} "
            f"to predict: name its column (`group`; values: {', '.join(model.card.groups)})"
        )
    _check_named(frame, group, "group", table)
    number = {name: position for position, name in enumerate(model.card.groups)}
    group_N = np.array([number.get(str(v).strip(), -1) for v in frame[group]], dtype=np.int64)
    wrong = np.flatnonzero(group_N < 0)
    if len(wrong):
        raise UserError(
            f"group: {len(wrong)} of {len(frame)} rows of {table} have no {group} that the model "
            f"knows (first: row {wrong[0] + 1}, {str(frame[group].iloc[wrong[0]])!r}; values: "
            f"{', '.join(model.card.groups)}): correct or leave them out"
        )
    return group_N


def _batches(
    paths: list[Any], folder: Path, geometry: tuple[int, int], batch_size: int, workers: int
) -> Iterator[_Batch]:
    """Decode batch by batch; one bad image never costs the others."""
    from trainables.data.decode import DecodeError, decode_image

    def decode(path: Any) -> np.ndarray | str:
        if not isinstance(path, str) or not path:
            return "no path"
        try:
            return decode_image((folder / path).read_bytes(), *geometry)
        except DecodeError as error:
            return str(error)
        except (OSError, ValueError) as error:  # ValueError: a path with a null character
            reason = error.strerror if isinstance(error, OSError) else None
            return reason or str(error)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(paths), batch_size):
            batch = _Batch([], [], [])
            for row, found in enumerate(
                pool.map(decode, paths[start : start + batch_size]), start
            ):
                if isinstance(found, str):
                    batch.problems.append((row, found))
                else:
                    batch.rows.append(row)
                    batch.images.append(found)
            yield batch


def _with_predictions(
    frame: pd.DataFrame, logits_NK: np.ndarray, classes: tuple[str, ...]
) -> pd.DataFrame:
    import pandas as pd

    columns = prediction_columns(logits_NK, classes)
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def prediction_columns(logits_NK: np.ndarray, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns ``logit_<class>``, ``p_<class>`` and ``y_pred`` of logits."""
    probability_NK = softmax(logits_NK)
    columns = {f"logit_{c}": logits_NK[:, k] for k, c in enumerate(classes)}
    columns |= {f"p_{c}": probability_NK[:, k] for k, c in enumerate(classes)}
    columns[PREDICTION] = np.array(classes, dtype=object)[logits_NK.argmax(1)]
    return columns


def _write(frame: pd.DataFrame, output: Path) -> None:
    draft = output.with_name(f".{output.name}")
    if output.suffix == ".parquet":
        frame.to_parquet(draft, index=False)
    else:
        frame.to_csv(draft, index=False)
    draft.replace(output)


def render_predict(document: dict[str, Any]) -> str:
    """The result for people; at most 20 unusable images are named."""
    lines = [
        f"{document['num_predicted']} of {document['num_rows']} images predicted: "
        f"{document['output']}"
    ]
    skipped = document["skipped"]
    lines += [f"skipped row {s['row']}: {s['image']} ({s['reason']})" for s in skipped[:20]]
    if len(skipped) > 20:
        lines.append(f"and {len(skipped) - 20} more")
    return escape("\n".join(lines))
