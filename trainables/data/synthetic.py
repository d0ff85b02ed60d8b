"""Synthetic dermoscopy: a data set with known answers, of any size, that may be shipped.

Lesions follow class medians measured on real dermoscopy; the skin's tone follows from melanin
optical density. Dials set how rare dark skin is, how much contrast lesions lose on it, how class
goes with tone and with artefacts, and how wrong labels are, so a gap between groups has a known
cause. It is a test bed, not evidence about people.

Shape legend: N images, H height, W width, C = 3 colour channels.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from trainables.data.attributes import add_groups
from trainables.data.base import DataConfig, DatasetSource, Progress, Table
from trainables.data.generated import LISTS
from trainables.data.synthetic_config import SyntheticConfig
from trainables.data.synthetic_people import groups_of, people
from trainables.data.synthetic_render import Photograph, render
from trainables.errors import UserError
from trainables.registry import datasets


@datasets.register("synthetic")
class Synthetic(DatasetSource):
    """Rendered lesions; nothing is read from disk."""

    VERSION = 1

    class Config(SyntheticConfig):
        """Dials of the generator."""

    @classmethod
    def table(cls, config: DataConfig) -> Table:
        """Draw patients and photographs; ``path`` is the name that ``write`` would use.

        Beside the columns of every table: true_label (before label noise), tone (1 to 6),
        rendered_tone, tone_group, sex, age, hair (covered share), vignette, pen, patient, view.
        In the counterfactual mode ``group`` stays the patient's own: only the pixels change.
        """
        dials = _dials(config)
        rows = people(dials)
        rows, groups, further = add_groups(rows, dials, lambda name: groups_of(rows, name))
        warnings = [
            f"synthetic: no image of {kind} {name!r} among {len(rows)}"
            for kind, column, names in (
                ("class", "label", dials.classes),
                ("group", "group", groups),
            )
            for name in names
            if not (rows[column] == name).any()
        ]
        return Table(rows, dials.classes, groups, tuple(warnings), further_groups=further)

    @classmethod
    def images(
        cls, config: DataConfig, table: Table, progress: Progress | None = None
    ) -> np.ndarray:
        """Render the table's rows, in their order, to (N, H, W, C) uint8."""
        dials = _dials(config)
        height, width = dials.image_size, round(dials.image_size * dials.aspect)
        images_NHWC = np.empty((len(table.rows), height, width, 3), np.uint8)
        for number, photo in enumerate(photographs(dials, table.rows)):
            images_NHWC[number], _ = render(photo, height, width)
            if progress is not None:
                progress(number + 1, len(images_NHWC))
        return images_NHWC


def photographs(config: SyntheticConfig, rows: pd.DataFrame) -> list[Photograph]:
    """What to render for each row of the table."""
    return [
        Photograph(
            seed=config.seed,
            patient=int(row.patient),
            view=int(row.view),
            label=str(row.true_label),
            tone=int(row.rendered_tone),
            contrast_loss=config.contrast_loss,
            lighting=config.lighting,
            hair=float(row.hair),
            vignette=bool(row.vignette),
            pen=bool(row.pen),
        )
        for row in rows.itertuples(index=False)
    ]


def write(
    config: SyntheticConfig, folder: Path, *, quality: int = 95, progress: Progress | None = None
) -> Path:
    """Write JPEG files, ``metadata.csv`` and ``synthetic.json`` (dials); return the CSV's path.

    The data set ``table`` reads the folder back with the columns path, label, tone_group and
    patient_id. The CSV comes last: a folder that has one is complete.

    Raises:
        UserError: ``quality`` outside 1 to 100, or the folder holds a set made with other dials.
    """
    if not 1 <= quality <= 100:
        raise UserError(f"quality must be in [1, 100] but got {quality} (data synthesize)")
    made = {
        "version": Synthetic.VERSION,
        "quality": quality,
        "config": config.model_dump(mode="json", exclude=LISTS | {"darken"}),
    }
    about, csv = folder / "synthetic.json", folder / "metadata.csv"
    if csv.exists() and not (about.exists() and json.loads(about.read_text("utf-8")) == made):
        raise UserError(f"{folder} already holds another data set; choose an empty folder")
    rows = Synthetic.table(config).rows
    (folder / "images").mkdir(parents=True, exist_ok=True)
    about.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    height, width = config.image_size, round(config.image_size * config.aspect)
    for number, (path, photo) in enumerate(
        zip(rows["path"], photographs(config, rows), strict=True)
    ):
        image_HWC, _ = render(photo, height, width)
        # No chroma subsampling: at 64 pixels it would blur the colour cues of the classes.
        Image.fromarray(image_HWC).save(folder / path, quality=quality, subsampling=0)
        if progress is not None:
            progress(number + 1, len(rows))
    own = [column for column in rows if column.split(":")[0] == "group"]
    rows.drop(columns=[*own, "patient", "view"]).to_csv(csv, index=False)
    return csv


def _dials(config: DataConfig) -> SyntheticConfig:
    if not isinstance(config, SyntheticConfig):
        raise TypeError(f"expected the config of the synthetic data set, got {type(config)}")
    return config
