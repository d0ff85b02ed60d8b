"""The dials of the synthetic data set."""

import difflib
from typing import Any

from pydantic import Field, model_validator

from trainables.data.base import DataConfig
from trainables.data.synthetic_classes import CLASSES
from trainables.errors import UserError

MALIGNANT = tuple(name for name, lesion in CLASSES.items() if lesion.malignant)


class SyntheticConfig(DataConfig):
    """Dials of the generator; every default is near what was measured on real dermoscopy."""

    ATTRIBUTES = ("tone", "tone6", "sex", "age", "artefact")

    name: str = "synthetic"
    attribute: str = "tone"
    image_size: int = Field(64, ge=8, le=2048, description="pixels of the shorter side")
    malignant: tuple[str, ...] = ("mel", "bcc")
    num_images: int = Field(1200, ge=1, le=10_000_000)
    seed: int = Field(0, ge=0)
    classes: tuple[str, ...] = ("nv", "mel", "bkl", "bcc")
    class_shares: tuple[float, ...] | None = Field(
        None, description="share of each class; equal shares if not given"
    )
    minority_share: float = Field(0.3, ge=0, le=1, description="share of patients of types IV-VI")
    light_shares: tuple[float, float, float] = Field(
        (0.25, 0.45, 0.3), description="types I, II, III among light patients"
    )
    dark_shares: tuple[float, float, float] = Field(
        (0.4, 0.35, 0.25), description="types IV, V, VI among dark patients"
    )
    contrast_loss: float = Field(
        0.5, ge=0, le=1, description="share of the lesion's offset lost on type VI, beyond optics"
    )
    class_tone_link: float = Field(
        0.0, ge=0, le=1, description="at 1, 95 % of dark patients have linked_class whatever else"
    )
    linked_class: str = "nv"
    artefact_class_link: float = Field(
        0.0, ge=0, le=5, description="1: vignettes and pen marks by class as measured; 0: none"
    )
    hair_share: float = Field(0.23, ge=0, le=1, description="images with hair over 1 % or more")
    vignette_share: float = Field(0.073, ge=0, le=1, description="images with dark corners")
    pen_share: float = Field(0.03, ge=0, le=1, description="images with a surgeon's pen mark")
    lighting: float = Field(1.0, ge=0, le=3, description="scale of exposure and colour cast")
    label_noise: float = Field(0.0, ge=0, le=1, description="share of patients mislabelled")
    images_per_patient: float = Field(1.3, ge=1, le=100, description="mean photographs a lesion")
    counterfactual_tone: int | None = Field(
        None, ge=1, le=6, description="render every lesion on this tone; all else is identical"
    )

    @model_validator(mode="before")
    @classmethod
    def _malignant_of_classes(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "classes" in fields and "malignant" not in fields:
            kept = tuple(name for name in MALIGNANT if name in tuple(fields["classes"]))
            return {**fields, "malignant": kept}
        return fields

    @model_validator(mode="after")
    def _check(self) -> "SyntheticConfig":
        where = "(data set synthetic)"
        for name in self.classes:
            if name not in CLASSES:
                near = difflib.get_close_matches(name, CLASSES, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(CLASSES)}"
                raise UserError(f"unknown class {name!r}, {hint} {where}")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise UserError(
                f"classes must be 2 or more different names but got {self.classes} {where}"
            )
        for field in ("class_shares", "light_shares", "dark_shares"):
            shares = getattr(self, field)
            if shares is not None and (min(shares, default=0) < 0 or not sum(shares) > 0):
                raise UserError(
                    f"{field} must be 0 or more with a positive sum, got {shares} {where}"
                )
        if self.class_shares is not None and len(self.class_shares) != len(self.classes):
            raise UserError(
                f"class_shares must have {len(self.classes)} values, one a class, "
                f"but has {len(self.class_shares)} {where}"
            )
        if self.class_tone_link > 0 and self.linked_class not in self.classes:
            raise UserError(
                f"linked_class {self.linked_class!r} is none of {', '.join(self.classes)} {where}"
            )
        return self
