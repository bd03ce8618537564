"""The model card of an adapter or of a merged model. Every figure in it is read from a kept evaluation, from the run's
own scoring, or from adapter.json; none is typed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.adapters.changes import note_of
from grounding.adapters.evaluations import Standing, standing_as_trained
from grounding.adapters.info import AdapterInfo
from grounding.adapters.usage import (
    Source,
    coordinates_in_words,
    cut_folders,
    profile_of,
    public_base,
    with_boxwright,
    without_boxwright,
)
from grounding.errors import RecordError, WorkspaceError
from grounding.paired import Difference, PairedComparison
from grounding.workspace import Workspace

CARD = "README.md"
FIGURES = {
    "accuracy_50": "Acc@0.5",
    "accuracy_75": "Acc@0.75",
    "mean_iou": "mean IoU",
    "detection_rate": "detection rate",
}
_MERGED_OF = "lora"
_FEWEST_IN_BUCKET, _MOST_BUCKETS = 10, 3


def model_card(
    workspace: Workspace,
    info: AdapterInfo,
    source: Source,
    *,
    license: str = "",
    agreement: str = "",
) -> str:
    """The card as Markdown with the Hub's front matter.

    `license` is the licence that the adapter is given ("": none is named); `agreement` says how a merged model was
    held against its adapter.
    """
    found = standing_as_trained(workspace, info, merged=source.merged)
    manifest = snapshot_manifest(workspace, info)
    told = cut_folders({"settings": info.settings, "sweep": info.sweep})
    info = replace(info, settings=MappingProxyType(told["settings"]), sweep=MappingProxyType(told["sweep"]))
    parts = [
        _front_matter(info, source, found, license),
        _opening(info, source, found),
        _results(found, workspace),
        _use(info, source),
        _data(info, manifest),
        _training(info, source, agreement),
        _limits(info, found, manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def snapshot_manifest(workspace: Workspace, info: AdapterInfo) -> Mapping[str, Any]:
    """The manifest of the snapshot it was trained on; empty where that is gone or another one has its name."""
    try:
        path = workspace.snapshots / info.snapshot / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return manifest if manifest["samples_sha256"] == info.snapshot_sha256 else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _front_matter(info: AdapterInfo, source: Source, found: Standing | None, license: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = None
    if found is not None and found.report is not None:
        results = [
            EvalResult(
                task_type="image-text-to-text",
                task_name="Referring expression comprehension",
                dataset_type=info.snapshot or "private",
                dataset_name=info.snapshot or "private",
                dataset_split=found.split,
                metric_type=key,
                metric_name=FIGURES[key],
                metric_value=round(found.scores[key], 4),
            )
            for key in FIGURES
        ]
    on_hub = info.base != "demo" and not Path(info.base).is_absolute()
    data = ModelCardData(
        base_model=info.base if on_hub else None,
        library_name="transformers" if source.merged else "peft",
        pipeline_tag="image-text-to-text",
        license=license or None,
        tags=["visual-grounding", "referring-expression-comprehension", _MERGED_OF, "boxwright"],
        model_name=info.name,
        eval_results=results,
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _opening(info: AdapterInfo, source: Source, found: Standing | None) -> str:
    what = "A model for" if source.merged else "A LoRA adapter for"
    base = "Boxwright's embedded demo model" if info.base == "demo" else f"`{public_base(info)}`"
    how = f"{base} with the adapter `{info.name}` merged into its weights" if source.merged else base
    lines = [f"# {info.name}", "", f"{what} visual grounding: the box of what a phrase refers to. It is of {how}."]
    note = note_of(info)
    if note:
        lines += ["", *(f"> {line}" for line in note.splitlines())]
    if found is not None and found.base_scores is not None and _worse(found):
        lines += ["", f"**It is not better than its base**: see the results on `{found.split}` below."]
    return "\n".join(lines)


def _worse(found: Standing) -> bool:
    assert found.base_scores is not None
    return found.scores["accuracy_50"] <= found.base_scores["accuracy_50"]


def _results(found: Standing | None, workspace: Workspace) -> str:
    if found is None:
        unseen = "phrases with a box that it had not learned from"
        return f"## Results\n\nIt was never evaluated on {unseen}: nobody knows how good it is."
    if found.report is not None:
        made = found.report.created_at[:10]
        where = (
            f"A kept evaluation of {made} on `{found.split}`: {found.count:,} phrases with a target, boxes generated."
        )
        if found.quantize != "none":
            where += f" The base's weights were quantised ({found.quantize})."
        if found.left_out:
            where += f" {found.left_out:,} phrases that it saw in training, or on pictures of that, are left out."
    else:
        where = (
            f"Not evaluated on its own yet. These are of its training: {found.count:,} validation phrases, on which "
            "its best state may have been chosen, so they flatter it."
        )
    header = "| | base | this | change |\n|---|---|---|---|" if found.base_scores else "| | this |\n|---|---|"
    rows = []
    for key, words in FIGURES.items():
        if key not in found.scores:
            continue
        mine, form = found.scores[key], _iou if key == "mean_iou" else _percent
        if found.base_scores:
            base = found.base_scores[key]
            rows.append(f"| {words} | {form(base)} | {form(mine)} | {_change(mine - base, key)} |")
        else:
            rows.append(f"| {words} | {form(mine)} |")
    text = f"## Results\n\n{where}\n\n{header}\n" + "\n".join(rows)
    paired = compared(found, workspace)
    return text + (f"\n\n{_paired_in_words(paired)}" if paired else "")


def compared(found: Standing, workspace: Workspace) -> PairedComparison | None:
    """The adapter against the base on the same samples, but for those that it saw in training; None where both were
    not asked the same, or too little is kept of it."""
    from grounding import counted

    if found.report is None or found.base_report is None:
        return None
    try:
        return counted.paired(counted.opened(workspace, found.base_report, found.report))
    except (WorkspaceError, RecordError):
        return None


def _paired_in_words(paired: PairedComparison) -> str:
    return (
        f"On the same {paired.count:,} phrases ({paired.pictures:,} pictures), {paired.wins:,} that the base missed at "
        f"IoU 0.5 are found and {paired.losses:,} that it found are missed. "
        f"Acc@0.5: {_interval(paired.accuracy_50, 'accuracy_50')}; mean IoU: {_interval(paired.mean_iou, 'mean_iou')}."
    )


def _interval(difference: Difference, key: str) -> str:
    change = _change(difference.difference, key)
    if difference.low is None or difference.high is None:
        return change
    low = _change(difference.low, key).removesuffix(" points")
    return f"{change} (95% interval {low} to {_change(difference.high, key)})"


def _change(value: float, key: str) -> str:
    text = f"{value:+.3f}" if key == "mean_iou" else f"{100 * value:+.1f} points"
    return text.replace("-", "−")


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _iou(value: float) -> str:
    return f"{value:.3f}"


def _use(info: AdapterInfo, source: Source) -> str:
    profile = profile_of(info)
    lines = ["## How to use it", ""]
    if profile is not None:
        lines += [f"Prompt, after the picture: `{profile.prompt}`", ""]
        lines += [f"The boxes of the answer are {coordinates_in_words(profile)}."]
        if profile.pixel_budget is not None:
            least, most = profile.pixel_budget
            lines += [f"Pictures are resized to an area of {least:,} to {most:,} pixels, in training and in use."]
        lines += [""]
    lines += ["With Boxwright:", ""]
    lines += ["```python", with_boxwright(info, source), "```"]
    plain = without_boxwright(info, source)
    if plain is not None:
        lines += ["", "With transformers" + ("" if source.merged else " and peft") + " alone:", "", "```python", plain]
        lines += ["```"]
    return "\n".join(lines)


def _data(info: AdapterInfo, manifest: Mapping[str, Any]) -> str:
    counts: Mapping[str, Any] = info.data or manifest.get("counts") or {}
    listed = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "val", "test") if counts.get(split))
    pictures = f" on {counts['pictures']:,} pictures" if counts.get("pictures") else ""
    licence = manifest.get("license") or manifest.get("licence")
    lines = ["## Data", ""]
    lines += [f"Snapshot `{info.snapshot or 'unknown'}`, SHA-256 `{info.snapshot_sha256 or 'unknown'}`."]
    lines += [f"Phrases: {listed}; the train ones{pictures}." if listed else "How many phrases it holds is not known."]
    left_out = manifest.get("left_out") or {}
    if left_out:
        told = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in left_out.items())
        lines += [f"Left out of the snapshot: {told}."]
    lines += [f"Licence of the data: {licence}." if licence else "The licence of the data is not known."]
    return "\n".join(lines)


def _training(info: AdapterInfo, source: Source, agreement: str) -> str:
    rows = {
        "base": f"`{public_base(info)}`",
        "base revision": f"`{info.base_revision}`" if info.base_revision else "",
        "SHA-256 of the base's files": f"`{info.base_sha256}`" if info.base_sha256 else "",
        "weights of the base in training": "full precision" if info.quantize == "none" else info.quantize,
        "profile": f"`{info.profile}`",
        "trained": f"{info.created_at}, {info.steps:,} steps",
        "chosen by": sweep_words(info),
        "versions": ", ".join(f"{name} {number}" for name, number in info.versions.items()),
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items() if value)
    settings = "\n".join(f"{name}: {_plain(value)}" for name, value in info.settings.items())
    lines = ["## Training", "", f"| | |\n|---|---|\n{table}"]
    if agreement:
        lines += ["", agreement]
    if settings:
        lines += ["", "<details><summary>All settings, the seed among them</summary>", "", f"```\n{settings}\n```", ""]
        lines += ["</details>"]
    return "\n".join(lines)


def sweep_words(info: AdapterInfo) -> str:
    """Of which sweep it is a run, and what was searched there; "" for none."""
    sweep = info.sweep
    if not sweep:
        return ""
    best = "the best" if sweep.get("best") else "one"
    searched = "; ".join(f"{name}: {values}" for name, values in sweep.get("searched", {}).items())
    return f"sweep {sweep.get('name')}, run {sweep.get('run')}, {best} of {sweep.get('of')}; searched {searched}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _limits(info: AdapterInfo, found: Standing | None, manifest: Mapping[str, Any]) -> str:
    counts: Mapping[str, Any] = info.data or manifest.get("counts") or {}
    learned = f"{counts['train']:,} phrases" if counts.get("train") else "the phrases of one snapshot"
    lines = ["## Limits", ""]
    lines += [f"- It learned from {learned}. On other kinds of pictures and phrases it may be no better than its base,"]
    lines += ["  or worse: evaluate it on yours first."]
    report = found.report if found else None
    weakest = weakest_buckets(report.buckets) if report else []
    if weakest:
        told = "; ".join(f"{words}: Acc@0.5 {share:.1%} of {count:,}" for words, share, count in weakest)
        lines += [f"- Weakest kinds of sample in the evaluation: {told}."]
    if report is not None and report.scores.no_target_accuracy is not None:
        share, asked = report.scores.no_target_accuracy, report.scores.no_target_count
        lines += [f"- A phrase that refers to nothing is answered so in {share:.1%} of {asked:,} cases."]
    else:
        lines += ["- How it answers a phrase that refers to nothing was not measured."]
    if info.quantize != "none":
        lines += [f"- It was trained on {info.quantize} weights; on full-precision ones boxes may differ slightly."]
    lines += ["- One answer is one guess. Where a wrong box does harm, let a person look at it."]
    return "\n".join(lines)


def weakest_buckets(buckets: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, float, int]]:
    """(which, Acc@0.5, count) of the kinds of sample with the lowest Acc@0.5, lowest first; small ones left out."""
    found = [
        (f"{dimension.replace('_', ' ')} {bucket}", scores.accuracy[0.5], scores.count)
        for dimension, inside in buckets.items()
        if dimension != "iou"  # that is sorted by the answer itself
        for bucket, scores in inside.items()
        if scores.count >= _FEWEST_IN_BUCKET
    ]
    return sorted(found, key=lambda entry: (entry[1], entry[0]))[:_MOST_BUCKETS]
