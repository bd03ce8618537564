"""Passwords as scrypt hashes, kept in a file with one `name:scrypt$n$r$p$salt$hash` a line."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from grounding.errors import SettingsError

try:
    import fcntl
except ImportError:  # Windows: nobody waits there
    fcntl = None  # type: ignore[assignment]

FEWEST_CHARACTERS = 8
MOST_CHARACTERS = 1024
MOST_NAME_CHARACTERS = 100
# 32 MiB and about 0.2 s for one guess: what OWASP names as enough, and little enough for a small machine.
_N, _R, _P = 2**15, 8, 3
_MOST_MEMORY_BYTES = 256 * 2**20
_MAKE_ONE = "Make its line with: python -m annotate password FILE NAME"


@dataclass(frozen=True)
class PasswordHash:
    """What is kept of a password. `n`, `r` and `p` are the costs of scrypt; a guess takes 128 * n * r bytes."""

    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str) -> PasswordHash:
        """A new hash of the password, with a salt of its own."""
        salt = secrets.token_bytes(16)
        return cls(_N, _R, _P, salt, _scrypt(password, salt, _N, _R, _P, 32))

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """The hash that `str` wrote. Raises `SettingsError` for any other text."""
        try:
            word, n, r, p, salt, digest = text.split("$")
            if word != "scrypt":
                raise ValueError(f"it begins with {word[:20]!r}")
            found = cls(int(n), int(r), int(p), _from_base64(salt), _from_base64(digest))
        except (ValueError, binascii.Error) as error:
            raise SettingsError("expected scrypt$n$r$p$salt$hash.") from error
        in_range = found.n > 1 and found.n & (found.n - 1) == 0 and 1 <= found.r <= 32 and 1 <= found.p <= 16
        if not in_range or 128 * found.n * found.r > _MOST_MEMORY_BYTES:
            raise SettingsError(f"its costs n={found.n}, r={found.r}, p={found.p} are out of range.")
        if len(found.salt) < 8 or not 16 <= len(found.digest) <= 64:
            raise SettingsError("its salt or hash is too short or too long.")
        return found

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(value).decode() for value in (self.salt, self.digest))
        return f"scrypt${self.n}${self.r}${self.p}${salt}${digest}"

    def matches(self, password: str) -> bool:
        """Whether this is the password; takes as long when it is not. Lets other threads run meanwhile."""
        guess = _scrypt(password, self.salt, self.n, self.r, self.p, len(self.digest))
        return hmac.compare_digest(guess, self.digest)


def clean_name(name: str) -> str:
    """The name as it is kept: NFC, without spaces around. Raises `SettingsError` when it can't be one."""
    cleaned = unicodedata.normalize("NFC", name).strip()
    fits = 0 < len(cleaned) <= MOST_NAME_CHARACTERS and cleaned.isprintable()
    if not fits or ":" in cleaned or cleaned.startswith("#"):
        raise SettingsError(
            f"{name[:120]!r} can't be a name to log in with: use 1 to {MOST_NAME_CHARACTERS} printable characters, "
            "no colon, and no # in front."
        )
    return cleaned


def read_passwords(path: Path) -> dict[str, PasswordHash]:
    """The hash of each name. Empty lines and those that begin with # are passed over. Raises `SettingsError`."""
    passwords: dict[str, PasswordHash] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, kept = line.partition(":")
        if not (name.strip() and colon and kept.strip()):
            raise SettingsError(f"{path}, line {number}: expected name:scrypt$n$r$p$salt$hash. {_MAKE_ONE}")
        name = clean_name(name)
        if not kept.startswith("scrypt$"):
            raise SettingsError(
                f"{path}, line {number}: the password of {name!r} stands there in plain text, which anybody who sees "
                f"the file could use. {_MAKE_ONE}"
            )
        if name in passwords:
            raise SettingsError(f"{path}, line {number}: the name {name!r} stands there twice. Remove one of them.")
        try:
            passwords[name] = PasswordHash.parse(kept.strip())
        except SettingsError as error:
            raise SettingsError(f"{path}, line {number}: the hash is damaged: {error} {_MAKE_ONE}") from error
    if not passwords:
        raise SettingsError(f"The log-in file {path} holds no name, so nobody could log in. {_MAKE_ONE}")
    return passwords


def set_password(path: Path, name: str, password: str) -> bool:
    """Write the name's line into the file, made where it is missing; returns whether it replaced one.

    The other lines stay as they are. The file is replaced in one step and is then readable by its owner alone.
    Raises `SettingsError` for an unfit name or password, or when the file can't be written.
    """
    name, path = clean_name(name), path.resolve()
    if not FEWEST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise SettingsError(
            f"The password has {len(password)} characters: use {FEWEST_CHARACTERS} to {MOST_CHARACTERS}."
        )
    added = f"{name}:{PasswordHash.of(password)}"
    with _alone_in(path.parent):
        lines = _read_lines(path) if path.exists() else []
        kept = [line for line in lines if _name_in(line) != name]
        _replace(path, "".join(f"{line}\n" for line in [*kept, added]))
    return len(kept) < len(lines)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Until the block ends, others who add names to a file in the folder wait: they would write back what it held."""
    if fcntl is None:
        yield
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SettingsError(f"The folder {folder} can't be opened ({error.strerror or error}).") from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _name_in(line: str) -> str | None:
    return None if line.startswith("#") else unicodedata.normalize("NFC", line.partition(":")[0]).strip()


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The log-in file {path} can't be read ({error}).") from error


def _replace(path: Path, text: str) -> None:
    try:
        # Made with mode 0600, which the new file keeps.
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"The log-in file {path} can't be written ({error.strerror or error}).") from error


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int, length: int) -> bytes:
    # The same word typed on two keyboards may be two series of code points.
    secret = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=2 * _MOST_MEMORY_BYTES, dklen=length)


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
