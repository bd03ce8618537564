"""Image features kept on disk within a bound, and keys that say what they were made of. No torch until it is used."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import re
import secrets
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from grounding.errors import PictureError
from grounding.pictures import check_type, file_sha256

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

KEPT_SHARE = 0.9  # of the bound, after some are removed
_MOST_WAITING = 64  # features that are to be written; those of a large picture take some megabytes
_RESCAN_SHARE = 1 / 32  # of the bound: after so many bytes written here, what other processes wrote is counted too
_PARTIAL_SECONDS = 3600  # a temporary file as old as this was left behind by a process that was killed
_CHECKSUM = "boxwright.crc32"
_SUFFIX = ".safetensors"
_KEY = re.compile(r"[0-9a-f]{8,128}")
_EXIF_ORIENTATION = 0x0112
_CONFIG_FILES = ("config.json", "preprocessor_config.json", "processor_config.json")
_WEIGHT_SUFFIXES = (_SUFFIX, ".bin", ".pt", ".pth", ".index.json")


class FeatureStore:
    """What the vision tower made of pictures, kept as safetensors files by key; what was not used for long goes first.

    Files stand at `folder/ab/abcdef....safetensors`, written to a temporary name first, so that several threads and
    several processes may share the folder. `max_bytes` bounds the sum of their sizes; a process sees what others
    wrote now and then, so the bound may be passed by a few per cent for a while. A file's modification time says when
    it was last used, to the second. A folder that can't be written is no error: nothing is kept then.
    """

    def __init__(self, folder: Path, max_bytes: int = 4 * 2**30) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._total_bytes: int | None = None  # None: to be counted
        self._written_bytes = 0  # since the last count
        self._warned = False
        self._writer: ThreadPoolExecutor | None = None
        self._waiting: list[Future[None]] = []

    def path(self, key: str) -> Path:
        """Where the features of this key stand or would stand. Raises `ValueError` for a malformed key."""
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key[:80]!r} is no key: expected 8 to 128 lower-case hexadecimal digits.")
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    def get(self, key: str) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
        """The tensors, on the CPU, and the metadata of this key; None when they aren't kept or are damaged.

        A damaged file is deleted and logged. The checksum of the tensors is compared, as a machine that lost power
        may leave a file of the right length with other bytes.
        """
        import torch  # noqa: F401  (safetensors needs it, and would raise an error of its own)
        from safetensors import SafetensorError, safe_open

        path = self.path(key)
        try:
            used_seconds = path.stat().st_mtime
            # Read, not mapped into memory: the tensors stay whole when the file goes away.
            with safe_open(str(path), framework="pt", backend="pread") as file:
                metadata, tensors = dict(file.metadata() or {}), file.get_tensors()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            log.warning("The kept features %s can't be read (%s): they are computed anew.", path, error)
            return None
        except (SafetensorError, UnicodeDecodeError) as error:
            self._discard(path, str(error))
            return None
        if metadata.pop(_CHECKSUM, None) != _checksum(tensors):
            self._discard(path, "its checksum differs")
            return None
        self._mark_used(path, used_seconds)
        return tensors, metadata

    def put(self, key: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
        """Keep these tensors and this metadata; what stood under the key is replaced.

        Where the disk is full or can't be written, one warning is logged and nothing is kept. Features larger than
        nine tenths of the bound aren't kept either.
        """
        from safetensors.torch import save

        path = self.path(key)
        # Clones: safetensors refuses tensors that share memory or have gaps in it.
        own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        content = save(own, {**metadata, _CHECKSUM: _checksum(own)})
        if len(content) > self.max_bytes * KEPT_SHARE:
            log.info("Features of %d bytes are not kept: the bound is %d bytes.", len(content), self.max_bytes)
            return
        try:
            replaced_bytes = _write_atomically(path, content)
            self._count(len(content), replaced_bytes)
        except OSError as error:
            log.log(
                logging.DEBUG if self._warned else logging.WARNING,
                "Image features can't be kept in %s (%s): work goes on without. "
                "Free some space or make the folder writable.",
                self.folder,
                error,
            )
            self._warned = True

    def put_soon(self, key: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
        """`put` behind the caller's back: writing takes longer than a GPU takes to look again. `flush` waits for it.

        With too many waiting, what comes is not kept: nobody should wait for a cache.
        """
        with self._lock:
            if self._writer is None:
                self._writer = ThreadPoolExecutor(1, thread_name_prefix="features")
            self._waiting = [one for one in self._waiting if not one.done()]
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append(self._writer.submit(self.put, key, dict(tensors), dict(metadata)))

    def flush(self) -> None:
        """Return once everything handed to `put_soon` so far is written. Raises what a `put` raised."""
        with self._lock:
            waiting = list(self._waiting)
        for one in waiting:
            one.result()

    def _discard(self, path: Path, why: str) -> None:
        log.warning("The kept features %s are damaged (%s): deleted, they are computed anew.", path, why)
        with suppress(OSError):  # deleted by somebody else, or it can't be: the next `put` replaces it
            path.unlink()
        with self._lock:
            self._total_bytes = None

    @staticmethod
    def _mark_used(path: Path, used_seconds: float) -> None:
        now_seconds = time.time()
        if abs(now_seconds - used_seconds) >= 1.0:
            with suppress(OSError):  # read-only, or just removed: only its turn to go is not put off
                os.utime(path, (now_seconds, now_seconds))

    def _count(self, added_bytes: int, replaced_bytes: int) -> None:
        with self._lock:
            self._written_bytes += added_bytes
            if self._total_bytes is not None:
                self._total_bytes += added_bytes - replaced_bytes
            rescan = self._total_bytes is None or self._written_bytes > self.max_bytes * _RESCAN_SHARE
            if rescan or self._total_bytes is None or self._total_bytes > self.max_bytes:
                self._total_bytes = self._evict()
                self._written_bytes = 0

    def _evict(self) -> int:
        """Count all files; beyond the bound, remove some down to 90% of it. Returns the bytes that remain.

        Those that go are drawn among the half used longest ago, and then among the rest. Were they simply the oldest,
        passes over a set that is larger than the bound would find nothing: each file would go just before its turn.
        """
        files = sorted(_files(self.folder))
        total_bytes = sum(size for _, _, size in files)
        if total_bytes <= self.max_bytes:
            return total_bytes
        older, newer = files[: (len(files) + 1) // 2], files[(len(files) + 1) // 2 :]
        for _, name, size in (*random.sample(older, len(older)), *newer):
            if total_bytes <= self.max_bytes * KEPT_SHARE:
                break
            with suppress(FileNotFoundError):  # another process removed it: its bytes are gone as well
                Path(name).unlink()
            total_bytes -= size
        return total_bytes


def _files(folder: Path) -> Iterator[tuple[int, str, int]]:
    """(time of last use in ns, path, bytes) of every kept file; temporary files left behind are removed."""
    for part in _entries(folder):
        for entry in _entries(Path(part.path)) if part.is_dir() else ():
            try:
                status = entry.stat()
                if entry.name.endswith(_SUFFIX):
                    yield status.st_mtime_ns, entry.path, status.st_size
                elif entry.name.startswith(".partial-") and time.time() - status.st_mtime > _PARTIAL_SECONDS:
                    Path(entry.path).unlink()
            except FileNotFoundError:  # another process removed it meanwhile
                continue


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _write_atomically(path: Path, content: bytes) -> int:
    """Put the content in the file's place; returns the bytes of the file that stood there, 0 when there was none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        replaced_bytes = path.stat().st_size if path.exists() else 0
        os.replace(partial, path)  # noqa: PTH105
        return replaced_bytes
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    import torch

    checksum = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy(), checksum)  # type: ignore[arg-type]
    return f"{checksum:08x}"


def picture_sha256(picture: str | Path | Image.Image) -> str:
    """64 hexadecimal digits that stand for a picture: the SHA-256 of a file's bytes.

    For an opened picture, that of its mode, size, pixels, palette, transparency and EXIF orientation: the same
    picture has one value as a file and another one opened. Raises `PictureError` when it can't be read or decoded.
    """
    check_type(picture)
    if not isinstance(picture, Image.Image):
        return file_sha256(picture)
    try:
        picture.load()  # first, as Pillow may turn a TIFF upright while it decodes
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
        palette = picture.palette.tobytes() if picture.palette is not None else b""
        pixels = picture.tobytes()
    except (OSError, ValueError, SyntaxError, EOFError, AssertionError) as error:  # Pillow asserts on closed files
        raise PictureError(f"The picture is damaged and can't be decoded ({error}). Save it anew.") from error
    transparency = picture.info.get("transparency")
    digest = hashlib.sha256(
        f"opened {picture.mode} {picture.size} {orientation!r} {transparency!r} {len(palette)}\n".encode()
    )
    digest.update(palette)
    digest.update(pixels)
    return digest.hexdigest()


def feature_key(picture_sha256: str, model_fingerprint: str, settings: str) -> str:
    """The key of the features that this model makes of this picture under these settings (a pixel budget, say).

    64 hexadecimal digits, the same in every process.
    """
    return _digest("boxwright-features/1", picture_sha256, model_fingerprint, settings)


def model_fingerprint(source: str, folder: Path | None, commit: str | None, dtype: str, quantize: str) -> str:
    """64 hexadecimal digits that change when the features of a model may change.

    A local `folder`: its place, the names, sizes and modification times of its config, preprocessor and weight files,
    and what stands in the JSON ones. A model of the Hub (`folder` None): its id `source` and its `commit`. Without a
    commit nobody knows whether the weights are still the same, so the value then differs with every call.
    Raises `OSError` when a file of the folder can't be read.
    """
    if folder is None:
        return _digest("hub", source, commit or secrets.token_hex(16), dtype, quantize)
    parts = ["folder", str(folder.resolve()), dtype, quantize]
    for path in sorted(folder.iterdir()):
        if path.name in _CONFIG_FILES or path.name.endswith(_WEIGHT_SUFFIXES):
            status = path.stat()
            content = file_sha256(path) if path.suffix == ".json" else ""
            parts.append(json.dumps([path.name, status.st_size, status.st_mtime_ns, content]))
    return _digest(*parts)


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
