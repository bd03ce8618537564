"""Pre-flight as plain text, for the command line and a run's log."""

from __future__ import annotations

from grounding.training.preflight.memory_words import in_gib
from grounding.training.preflight.records import Finding, Piece, Preflight, Probe, Seen, annotate_address

_LISTED = 8


def as_text(checked: Preflight) -> str:
    """Everything that was found, a paragraph each."""
    lines = [_head(checked), ""]
    lines += [line for finding in checked.findings for line in _finding(finding)]
    if checked.rounding is not None and checked.rounding.boxes:
        rounding = checked.rounding
        lines.append(
            f"Box to text to box: {rounding.boxes:,} boxes come back; rounding costs {rounding.mean_loss:.1%} of their "
            f"IoU on average, and more than a tenth of {rounding.below:,}."
        )
    for seen in checked.seen:
        lines += ["", *_seen(seen)]
    if checked.probes:
        lines += ["", *map(_probe, checked.probes)]
    lines += _cost(checked)
    return "\n".join(line.rstrip() for line in lines)


def _head(checked: Preflight) -> str:
    counts = checked.counts
    data = (
        f"{checked.snapshot or 'The samples'}: {counts.get('train', 0):,} train samples on "
        f"{counts.get('train_pictures', 0):,} pictures, {counts.get('val', 0):,} validation samples."
    )
    if checked.blocking:
        return f"{data} {len(checked.blocking)} findings stand in the way."
    return f"{data} Nothing stands in the way."


def _finding(finding: Finding) -> list[str]:
    mark = "STOPS IT" if finding.blocking else "note"
    lines = [f"[{mark}] {finding.sentence}"]
    if finding.queue:
        lines.append(f"    in Annotate: {finding.queue}")
    lines += [f"    {sample}  {annotate_address(sample)}" for sample in finding.samples[:_LISTED]]
    if finding.count > _LISTED:
        lines.append(f"    and {finding.count - _LISTED:,} more")
    return lines


def _seen(seen: Seen) -> list[str]:
    text = "".join(map(_marked, seen.pieces)).replace("»«", "")
    together = "alone on the picture" if seen.shared_by == 1 else f"{seen.shared_by} phrases share the picture"
    return [
        f"What the model sees of {seen.sample} ({seen.why}): {seen.seen_size_wh[0]} x {seen.seen_size_wh[1]} pixels, "
        f"{seen.image_tokens} image + {seen.prompt_tokens} prompt tokens, {seen.supervised_tokens} supervised («»), "
        f"{together}; IoU of the box in the text: {seen.iou:.3f}",
        *(f"    {line}" for line in text.splitlines()),
    ]


def _marked(piece: Piece) -> str:
    if piece.part == "image":
        return f"[image x{piece.count}]"
    return f"«{piece.text}»" if piece.part == "answer" else piece.text


def _probe(probe: Probe) -> str:
    changed = " ".join(f"{key}={value}" for key, value in probe.changes.items()) or "as asked"
    limit = f" of {in_gib(probe.limit_bytes)}" if probe.limit_bytes is not None else ""
    if not probe.fits:
        return f"Largest step ({changed}): does not fit, {in_gib(probe.peak_bytes)}{limit}."
    return (
        f"Largest step ({changed}): fits, {in_gib(probe.peak_bytes)}{limit}, sequences of up to {probe.tokens:,} "
        f"tokens, {probe.seconds or 0:.2f} s."
    )


def _cost(checked: Preflight) -> list[str]:
    cost = checked.cost
    if cost is None or not cost.phrases:
        return []
    line = f"The run shows {cost.phrases:,} phrases, each train phrase {cost.rounds:.1f} times"
    if cost.seconds is not None:
        line += f"; about {in_minutes(cost.seconds)} at the pace of the largest step just now"
        line += ", much less once the machine has nothing else to do" if checked.busy else ""
    if cost.adapter_bytes is not None:
        line += f"; the adapter has {in_gib(cost.adapter_bytes)}"
    return [f"{line}."]


def in_minutes(seconds: float) -> str:
    """Such as "2 min 05 s", "40 s" or "3 h 20 min"."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
