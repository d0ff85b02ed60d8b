"""Images that most excite pruned channels, with the licence they stand under; only when asked for.

They come from the validation split and are shown without their names.
"""

from __future__ import annotations

import base64
import io
import tempfile
from html import escape
from pathlib import Path

import numpy as np

from orchestrator.card import NON_COMMERCIAL, changes_of, data_terms
from orchestrator.datasets.of_sweep import dataset_of_sweep
from orchestrator.pages.document import paragraph
from orchestrator.report.channels import pruned_steps
from orchestrator.report.facts import Facts
from orchestrator.report.node_files import read_scores
from orchestrator.report.section import Section
from trainables.data.base import VALIDATION, Dataset
from trainables.store import StoreError

MAX_STEPS, MAX_CHANNELS, NUM_IMAGES = 3, 5, 6
MAX_SEARCHED = 2000
"""Images of validation that are looked through."""
SIDE, QUALITY = 96, 80


def images_section(facts: Facts) -> Section:
    """For a few pruning steps, the channels with the lowest scores and what excites them.

    Raises:
        UserError: the images are not at hand, or are not those of the sweep.
    """
    title = "Images that most excite pruned channels"
    dataset = dataset_of_sweep(
        facts.spec.data, facts.manifest, facts.folder, asked_by="--images"
    )
    rows = dataset.indices(VALIDATION)
    rows = rows[dataset.group_N[rows] >= 0][:MAX_SEARCHED]
    blocks: list[str] = []
    steps = sorted(
        pruned_steps(facts),
        key=lambda step: facts.points[step[0]].aggregate.trial["role"] != "treatment",
    )
    for name, key in steps:
        if len(blocks) == MAX_STEPS:
            break
        block = _step(facts, name, key, dataset, rows)
        if block:
            blocks.append(block)
    if not blocks:
        return Section("images", title, "", "no pruned channel, or the nodes' files are gone")
    terms = data_terms(dataset.name)
    notice = [f"Licence of these images: {terms.licence}."]
    notice += [f"Cite: {terms.cite}."] if terms.cite else []
    changes = [*changes_of(facts.spec), f"here at most {SIDE} pixels high"]
    notice.append(f"Changed: {'; '.join(changes)}.")
    if terms.is_non_commercial is not False:
        notice.append("Do not publish this page unless the licence allows it.")
    notice += [NON_COMMERCIAL] if terms.is_non_commercial else []
    told = (
        f"Of each step the {MAX_CHANNELS} pruned channels with the lowest scores, and the images "
        f"of validation to which each answers most (mean over positions of its positive part), "
        f"the strongest first, among {len(rows)} images. What a channel answers to is no "
        "explanation of what the net does with it."
    )
    body = f'<div class="notice">{"".join(f"<p>{escape(line)}</p>" for line in notice)}</div>'
    return Section("images", title, body + paragraph(told) + "".join(blocks))


def _step(facts: Facts, name: str, key: str, dataset: Dataset, rows: np.ndarray) -> str:
    """One pruning step: the net before it, its first layer; empty where files are gone."""
    from trainables.portable import load_portable, save_portable
    from trainables.pruning.excitation import excitation, most_exciting

    node, scores = facts.store.node(key), read_scores(facts.store, key)
    if node is None or not scores:
        return ""
    extra = {
        "groups": facts.groups, "aspect": facts.spec.data.aspect,
        "attribute": facts.manifest["data"]["attribute"], "metrics": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        try:
            parent = save_portable(facts.store, node["parents"][0]["key"], Path(folder), extra)
        except StoreError:
            return ""
        portable = load_portable(parent)
    layer = scores[0]
    site = node["plan"][layer.layer]["site"]
    groups = dataset.group_N[rows] if portable.needs_group else None
    found_NC = excitation(portable, layer.layer, site, dataset.images_NHWC[rows], groups)
    lowest = sorted(layer.removed, key=lambda c: (layer.scores[c] is None, layer.scores[c] or 0.0))
    lines = []
    for channel in lowest[:MAX_CHANNELS]:
        pictures = "".join(
            _picture(dataset, int(rows[i])) for i in most_exciting(found_NC, channel, NUM_IMAGES)
        )
        lines.append(
            f'<figure class="strip"><div>{pictures}</div><figcaption>channel {channel}, score '
            f"{layer.scores[channel]:.4g}</figcaption></figure>"
        )
    return f"<h3>{escape(facts.label(name))}, {escape(layer.layer)}</h3>" + "".join(lines)


def _picture(dataset: Dataset, row: int) -> str:
    from PIL import Image

    image = Image.fromarray(np.array(dataset.images_NHWC[row]))
    image.thumbnail((2 * SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    told = (
        f"class {dataset.classes[dataset.label_N[row]]}, "
        f"group {dataset.groups[dataset.group_N[row]]}"
    )
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(told)}" title="{escape(told)}">'
