"""Which published row stands beside a configuration of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from orchestrator.tables.published import Block, find_reference, tag_of
from trainables.registry import baselines
from trainables.specs import validate
from trainables.trial_spec import Prune

METHODS: Mapping[str, tuple[str, str | None]] = {
    "VGG-11": ("vanilla", None),
    "AdvConf": ("adv_conf", None),
    "AdvRef": ("adv_rev", None),
    "DomainIndep": ("domain_independent", None),
    "HSIC": ("hsic", None),
    "OBD": ("obd", None),
    "SCP-VGG-11": ("vanilla", "snnl"),
    "SCP-HSIC": ("hsic", "snnl"),
    "SCP-FairPrune": ("fairprune", "snnl"),
}
"""Method as printed -> our baseline and criterion."""

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "skin_tone": ("skin_tone", "skin_type"),
    "gender": ("gender", "sex"),
}
"""Attribute as in the file -> what a data set of ours may call it."""

HEADLINE_SNNL = {"direction": "lowest", "anchor_weight": "image", "temperature": 1.0}
"""Options of ``snnl`` that make another criterion of it than the published one."""

PUBLISHED_SURGERY, PUBLISHED_LOSS = "weight_mask", "cross_entropy"
"""Of ``prune``, in our words: what the published rows were made with."""


def matching(
    trial: Mapping[str, Any], *, dataset: str, attribute: str, backbone: str,
    blocks: Sequence[Block],
) -> list[Block]:
    """Published rows of the same data set, attribute, backbone, method, ratio and iterations.

    Surgery and the loss of fine-tuning may be others (``differences``).

    Args:
        trial: of a record (``orchestrator/schemas/record.json``).
        dataset: name of the data set.
        attribute: whose values are the groups.
        backbone: name of the backbone.
        blocks: the published rows.
    """  # fmt: skip
    return [
        block
        for block in blocks
        if block.identity["dataset"] == dataset
        and block.identity["backbone"] == backbone
        and attribute in ATTRIBUTES.get(block.identity["attribute"], ())
        and METHODS.get(block.method) == (trial["baseline"]["name"], trial["criterion"])
        and _same_arm(trial, block)
    ]


def _same_arm(trial: Mapping[str, Any], block: Block) -> bool:
    n, ratio = block.identity["n"], block.identity["pr_c"]
    if trial["n"] != int(n or 0):
        return False
    if ratio and (trial["ratio"] is None or Fraction(ratio) != Fraction(str(trial["ratio"]))):
        return False
    options = ((trial["prune"] or {}).get("criterion") or {}) if trial["n"] else {}
    return all(options.get(name, value) == value for name, value in HEADLINE_SNNL.items())


def differences(trial: Mapping[str, Any]) -> list[str]:
    """What the pruning of a configuration of ours does otherwise than the published one.

    The published rows come from weights that are masked and from fine-tuning by plain
    cross-entropy: the released code does so after every baseline, the paper does not say.

    Args:
        trial: of a record that a published row stands beside.

    Returns:
        One text an option; none where nothing is pruned, or where the baseline's own loss is
        plain cross-entropy anyway.
    """
    prune = trial["prune"]
    if not trial["n"] or prune is None:
        return []
    found = []
    surgery = prune.get("surgery", Prune.model_fields["surgery"].default)
    if surgery != PUBLISHED_SURGERY:
        found.append(f"surgery: ours {surgery}, published {PUBLISHED_SURGERY}")
    loss = prune.get("finetune_loss", Prune.model_fields["finetune_loss"].default)
    if loss != PUBLISHED_LOSS and not _loss_is_plain(trial["baseline"]):
        name = trial["baseline"]["name"]
        found.append(f"finetune_loss: ours {loss} ({name}), published {PUBLISHED_LOSS}")
    return found


def _loss_is_plain(baseline: Mapping[str, Any]) -> bool:
    kind = baselines.get(baseline["name"])
    return bool(kind.loss_is_plain(validate(kind.Config, baseline, place="baseline of a record")))


def document(
    block: Block, blocks: Sequence[Block], differs: Sequence[str] = ()
) -> dict[str, Any]:
    """A published row as JSON: figures are the printed texts.

    Args:
        block: the row.
        blocks: all published rows, among which its reference is.
        differs: what the configuration of ours beside it does otherwise.
    """
    tag, why = tag_of(block, find_reference(block, blocks))
    return {
        **block.identity,
        "fate_baseline": block.fate_baseline,
        "source": block.source,
        "lines": block.lines,
        "tag": tag,
        "tag_note": why,
        "differs": list(differs),
        "misprints": [
            {"group": m.group, "columns": list(m.columns), "note": m.note}
            for m in block.misprints
        ],
    }
