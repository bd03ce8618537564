"""From refs (REFER's and gRefCOCO's) to samples: one ref is one sample, its first sentence the phrase."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotate.carried import KEY, restore
from annotate.importers.instances import Instances, box_of, find_instances, read_instances
from annotate.importers.picture_folders import PictureFolders
from annotate.importers.plain_pickle import plain_json
from annotate.importers.splits import split_in
from annotate.items import BadRow
from grounding.errors import BoxError, RecordError
from grounding.records import Sample

# What this reader, and not a person, puts among the further keys.
OWN_KEYS = frozenset(
    {"ref_id", "ann_id", "category_id", "source_split", "dataset", "raw", "file_name", "no_target"}
    | {"iscrowd", "segmentation", "area"}
)
_TAKEN_KEYS = frozenset({"sentences", "sent_ids", "image_id", "split", KEY})


@dataclass(frozen=True)
class RefFile:
    """A file of refs: that of the data set `dataset` (refcoco, refcoco+, ...), split as `split_by` (unc, umd, ...)."""

    path: Path
    dataset: str
    split_by: str


def has_ref_files(source: Path, pattern: str) -> bool:
    """Whether there is a file of this name at `source`. Never raises."""
    try:
        return bool(_ref_files(source, pattern))
    except OSError:
        return False


def ref_files(source: Path, pattern: str, expects: str) -> list[RefFile]:
    """The files of this name at `source`; raises `RecordError` with what is expected when there are none."""
    files = _ref_files(source, pattern)
    if not files:
        raise RecordError(f"{source} has no {pattern}. Expected {expects}.")
    return files


def _ref_files(source: Path, pattern: str) -> list[RefFile]:
    """Those at `source`: itself, or in the folder, or in the folders right below it."""
    if not source.is_dir():
        found = [source] if source.match(pattern) else []
    else:
        found = sorted(source.glob(pattern)) or sorted(source.glob(f"*/{pattern}"))
    return [_ref_file(path) for path in found if path.is_file()]


def _ref_file(path: Path) -> RefFile:
    return RefFile(path, path.parent.resolve().name.lower(), path.stem.partition("(")[2].rstrip(")"))


def read_refs(file: RefFile, refs: Iterable[object]) -> Iterator[Sample | BadRow]:
    """A sample for each ref, in their order. Raises `RecordError` without an instances file."""
    kept = list(refs)
    folder, linked = file.path.parent.resolve(), file.path.resolve().parent
    wanted = {ann_id for ref in kept if isinstance(ref, dict) for ann_id in _listed(ref.get("ann_id"))}
    instances = read_instances(find_instances(folder, linked), wanted)
    pictures = PictureFolders((folder, folder.parent, linked, linked.parent))
    for number, ref in enumerate(kept, start=1):
        try:
            yield _sample(file, ref, instances, pictures)
        except (RecordError, BoxError) as error:
            yield BadRow(f"{file.dataset}/{file.path.name}, ref {number}", str(error))


def _sample(file: RefFile, ref: object, instances: Instances, pictures: PictureFolders) -> Sample:
    if not isinstance(ref, dict) or not isinstance(ref.get("ref_id"), int | str):
        raise RecordError("expected a ref with 'ref_id', 'image_id', 'ann_id', 'split' and 'sentences'.")
    phrases, raw = _phrases(ref)
    annotations = [instances.annotation(ann_id) for ann_id in _ann_ids(ref)]
    split, source_split = _split(ref)
    listed = instances.picture(ref.get("image_id"))
    extra = {key: plain_json(value) for key, value in ref.items() if isinstance(key, str) and key not in _TAKEN_KEYS}
    extra |= {"dataset": file.dataset, "source_split": source_split}
    if raw != phrases:
        extra["raw"] = raw
    for key in ("iscrowd", "segmentation", "area"):
        values = [annotation[key] for annotation in annotations if key in annotation]
        if values:
            extra[key] = values[0] if len(values) == 1 else values
    seen = Sample(
        id="/".join(part for part in (file.dataset, file.split_by, str(ref["ref_id"])) if part),
        image=pictures.find(listed.file_name, listed.annotated_size_wh),
        phrase=phrases[0] if phrases else "",
        boxes_xyxy_px=tuple(box_of(annotation) for annotation in annotations),
        split=split,
        category=_category(ref, annotations, instances),
        image_id=str(ref["image_id"]),
        alternatives=tuple(phrases[1:]),
        extra=extra,
    )
    return restore(seen, plain_json(ref[KEY]), OWN_KEYS) if KEY in ref else seen


def _listed(value: object) -> list[Any]:
    """The ids of one id or a list of them, without what is none."""
    values = value if isinstance(value, list | tuple) else [value]
    return [one for one in values if isinstance(one, int | str)]


def _ann_ids(ref: dict[Any, Any]) -> list[Any]:
    """The annotations that the ref points at; none for [-1], which says that the phrase refers to nothing."""
    if "ann_id" not in ref and not ref.get("no_target"):
        raise RecordError("it has no 'ann_id'. Expected the id of an annotation, a list of them, or [-1] for none.")
    ids = _listed(ref.get("ann_id"))
    return [] if ref.get("no_target") or ids == [-1] else ids


def _phrases(ref: dict[Any, Any]) -> tuple[list[str], list[str]]:
    """(the sentences, the same as they were typed). Raises `RecordError` when one has no text."""
    sentences = ref.get("sentences")
    if not isinstance(sentences, list | tuple):
        raise RecordError("its 'sentences' are no list.")
    phrases, raw = [], []
    for sentence in sentences:
        entry = sentence if isinstance(sentence, dict) else {"sent": sentence}
        text = _text(entry.get("sent", entry.get("raw")))
        phrases.append(text)
        raw.append(_text(entry.get("raw", text)))
    return phrases, raw


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if not isinstance(value, str):
        raise RecordError(f"the sentence {str(value)[:80]!r} is no text.")
    return value


def _split(ref: dict[Any, Any]) -> tuple[str, str]:
    """(our split, theirs)."""
    named = ref.get("split")
    found = split_in(named) if isinstance(named, str) else None
    if found is None:
        raise RecordError(f"its split {str(named)[:80]!r} is unknown. Expected train, val, test, testA or testB.")
    return found[0], str(named)


def _category(ref: dict[Any, Any], annotations: list[dict[str, Any]], instances: Instances) -> str:
    """The name of what is referred to; several kinds with commas between."""
    ids = [annotation.get("category_id") for annotation in annotations] or _listed(ref.get("category_id"))
    names = dict.fromkeys(instances.category(category_id) for category_id in ids)
    return ", ".join(name for name in names if name)
