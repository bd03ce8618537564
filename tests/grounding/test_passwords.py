"""Passwords are kept as scrypt hashes: what a line must be, and that a file of them is replaced in one step."""

from __future__ import annotations

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from grounding import passwords
from grounding.errors import SettingsError
from grounding.passwords import PasswordHash, clean_name, read_passwords, set_password

GOOD = "scrypt$2$1$1$MDEyMzQ1Njc4OWFiY2RlZg==$AAECAwQFBgcICQoLDA0ODw=="


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that cost nothing: what is tested is not how long a guess takes."""
    monkeypatch.setattr(passwords, "_N", 2)
    monkeypatch.setattr(passwords, "_P", 1)


def test_a_hash_knows_its_password_alone_and_survives_being_written() -> None:
    kept = PasswordHash.of("correct horse")
    assert str(kept).startswith("scrypt$32768$8$3$")
    assert "horse" not in str(kept)
    again = PasswordHash.parse(str(kept))
    assert again == kept
    assert again.matches("correct horse")
    assert not again.matches("correct horsf")


def test_a_guess_is_costly() -> None:
    kept = PasswordHash.of("correct horse")
    begin = time.process_time()
    kept.matches("guess")
    assert time.process_time() - begin > 0.02


@pytest.mark.usefixtures("cheap")
def test_the_same_password_has_another_hash_each_time() -> None:
    assert PasswordHash.of("correct horse") != PasswordHash.of("correct horse")


@pytest.mark.usefixtures("cheap")
def test_the_same_letters_typed_another_way_are_the_same_password() -> None:
    assert PasswordHash.of("caf\u00e9 noir").matches("cafe\u0301 noir")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "scrypt",
        "bcrypt$2$1$1$MDEyMzQ1Njc4OWFiY2RlZg==$AAECAwQFBgcICQoLDA0ODw==",
        GOOD.replace("$2$", "$two$"),
        GOOD.replace("$2$", "$3$"),
        GOOD.replace("$2$", "$1$"),
        GOOD.replace("$2$1$", "$1048576$32$"),
        GOOD.replace("$1$1$", "$0$1$"),
        GOOD.replace("$1$1$", "$1$17$"),
        GOOD.replace("MDEy", "MD!y"),
        GOOD.replace("MDEyMzQ1Njc4OWFiY2RlZg==", "MDE="),
        GOOD.replace("AAECAwQFBgcICQoLDA0ODw==", "AAEC"),
        GOOD + "$more",
    ],
)
def test_what_is_no_hash_is_refused(text: str) -> None:
    PasswordHash.parse(GOOD)
    with pytest.raises(SettingsError):
        PasswordHash.parse(text)


@pytest.mark.parametrize("name", ["", "  ", "#ann", "a:b", "a\nb", "a\u202eb", "x" * 101])
def test_a_name_that_cannot_be_one(name: str) -> None:
    with pytest.raises(SettingsError, match="can't be a name"):
        clean_name(name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no name.*annotate password FILE NAME"),
        ("ann\n", "line 1: expected name:scrypt"),
        ("# x\nann:\n", "line 2: expected name:scrypt"),
        ("ann:secret\n", r"line 1: the password of 'ann' .* plain text.*annotate password FILE NAME"),
        (f"ann:{GOOD[:-8]}\n", "line 1: the hash is damaged.*annotate password FILE NAME"),
        (f"ann:{GOOD}\nann:{GOOD}\n", "line 2: the name 'ann' stands there twice"),
        (None, "can't be read"),
    ],
)
def test_a_file_that_lets_nobody_in_says_why(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "people").write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=said) as caught:
        read_passwords(tmp_path / "people")
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("cheap")
def test_names_are_added_and_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "people"
    assert not set_password(path, "ann", "first password")
    path.write_text("# the team\n\nben:plain text\n" + path.read_text(), encoding="utf-8")
    assert set_password(path, "ben", "second password")
    assert set_password(path, " ann ", "third password")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["# the team", ""]
    assert [line.split(":")[0] for line in lines[2:]] == ["ben", "ann"]
    kept = read_passwords(path)
    assert kept["ann"].matches("third password")
    assert not kept["ann"].matches("first password")
    assert kept["ben"].matches("second password")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["people"]


@pytest.mark.usefixtures("cheap")
def test_names_that_are_added_at_once_all_stay(tmp_path: Path) -> None:
    path, names = tmp_path / "people.txt", {f"person {number}" for number in range(16)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: set_password(path, name, "a long password"), names))
    assert set(read_passwords(path)) == names


@pytest.mark.usefixtures("cheap")
def test_a_write_that_breaks_off_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "people"
    set_password(path, "ann", "first password")
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SettingsError, match=r"can't be written .No space"):
        set_password(path, "ann", "second password")
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["people"]


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_a_password_too_short_or_too_long_is_refused(tmp_path: Path, password: str) -> None:
    with pytest.raises(SettingsError, match=rf"has {len(password)} characters: use 8 to 1024"):
        set_password(tmp_path / "people", "ann", password)
    assert not (tmp_path / "people").exists()
