"""Unpack a zip file that anybody may have made: nothing outside of the folder, no link, no bomb."""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from grounding.errors import RecordError

MAX_MEMBERS = 1_000_000
MAX_UNPACKED_BYTES = 256 << 30
# Text packs to a tenth, pictures hardly: beyond this, and above a size that does no harm, it is a bomb.
MAX_RATIO = 100
HARMLESS_BYTES = 256 << 20
_PIECE_BYTES = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
_JUNK_OF_MACOS = "__MACOSX"


def unzip(archive: Path, folder: Path) -> None:
    """Unpack the archive into the new folder. Raises `RecordError` before anything is written where it is unsafe,
    and when it is damaged, locked with a password, or larger than the disk has room for."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = list(_safe_members(opened, archive))
            folder.parent.mkdir(parents=True, exist_ok=True)
            _check_room(archive, members, folder.parent)
            folder.mkdir()
            for member, name in members:
                _write(opened, member, folder / name)
    except RecordError:
        raise
    except _DAMAGE as error:
        raise RecordError(f"{archive} is no sound zip file ({error}). Pack it anew.") from error
    except OSError as error:
        raise RecordError(f"{archive} can't be unpacked ({error.strerror or error}).") from error


def _safe_members(opened: zipfile.ZipFile, archive: Path) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The files of the archive with their names inside the folder, each of them checked."""
    infos = opened.infolist()
    if len(infos) > MAX_MEMBERS:
        raise RecordError(f"{archive} holds {len(infos)} files; the limit is {MAX_MEMBERS}. Unpack it yourself.")
    seen: set[str] = set()
    for info in infos:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        shown = f"{archive}: the name {info.filename[:120]!r}"
        if name.is_absolute() or PureWindowsPath(info.filename).drive or ".." in name.parts:
            raise RecordError(f"{shown} leads out of the folder that it is unpacked into. Don't trust this file.")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RecordError(f"{shown} is a link or a device. Expected files and folders alone: pack it without.")
        if info.flag_bits & 1:
            raise RecordError(f"{shown} is locked with a password. Pack it without one.")
        if info.is_dir() or info.filename.endswith("\\") or name.parts[:1] == (_JUNK_OF_MACOS,):
            continue
        if str(name) in seen:
            raise RecordError(f"{shown} stands twice. Expected each file once.")
        seen.add(str(name))
        yield info, name


def _check_room(archive: Path, members: list[tuple[zipfile.ZipInfo, PurePosixPath]], place: Path) -> None:
    unpacked_bytes = sum(info.file_size for info, _ in members)
    if unpacked_bytes > HARMLESS_BYTES and unpacked_bytes > MAX_RATIO * archive.stat().st_size:
        raise RecordError(
            f"{archive} would unpack to {unpacked_bytes / 1e9:.1f} GB, more than {MAX_RATIO} times its size: "
            "that is a bomb, not a data set. If you trust it, unpack it yourself and import the folder."
        )
    free_bytes = min(MAX_UNPACKED_BYTES, shutil.disk_usage(place).free)
    if unpacked_bytes > free_bytes:
        raise RecordError(
            f"{archive} would unpack to {unpacked_bytes / 1e9:.1f} GB; there is room for {free_bytes / 1e9:.1f} GB. "
            "Free some space, or unpack it elsewhere and import the folder."
        )


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left_bytes = member.file_size
    # "x": where names differ in case only and the disk takes them for one, nothing is overwritten.
    with opened.open(member) as packed, target.open("xb") as file:
        while piece := packed.read(_PIECE_BYTES):
            left_bytes -= len(piece)
            if left_bytes < 0:
                raise RecordError(f"{member.filename[:120]!r} unpacks to more than the zip file says: it is a bomb.")
            file.write(piece)
