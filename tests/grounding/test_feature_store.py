"""The store of image features: what is kept comes back, within its bound, whatever happens to the disk."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from grounding import feature_store
from grounding.errors import PictureError
from grounding.feature_store import FeatureStore, feature_key, model_fingerprint, picture_sha256

ROOT = Path(__file__).resolve().parent.parent.parent
DAY_SECONDS = 86400.0


def key(number: int) -> str:
    return feature_key(f"picture {number}", "model", "settings")


def features(seed: int = 0, count: int = 250) -> dict[str, Any]:
    import torch

    return {"image_embeds": torch.randn(count, generator=torch.Generator().manual_seed(seed))}


def kept(store: FeatureStore) -> set[str]:
    return {path.stem for path in store.folder.rglob("*.safetensors")}


def age(store: FeatureStore, number: int, days: float) -> None:
    seconds = time.time() - days * DAY_SECONDS
    os.utime(store.path(key(number)), (seconds, seconds))


def test_what_is_put_comes_back(tmp_path: Path) -> None:
    import torch

    store = FeatureStore(tmp_path / "features")
    base = torch.arange(24, dtype=torch.bfloat16).reshape(4, 6)
    tensors = {"whole": base, "turned": base.T, "row": base[1], "none": torch.empty(0, 3), "one": torch.tensor(True)}
    store.put(key(1), tensors, {"grid": "1 8 8", "note": "ä"})
    found = FeatureStore(tmp_path / "features").get(key(1))
    assert found is not None
    back, metadata = found
    assert metadata == {"grid": "1 8 8", "note": "ä"}
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert torch.equal(back[name], tensor)
    assert store.path(key(1)) == tmp_path / "features" / key(1)[:2] / f"{key(1)}.safetensors"
    back["whole"].zero_()
    again = store.get(key(1))
    assert again is not None
    assert torch.equal(again[0]["whole"], base), "changing what was got changes nothing that is kept"


def test_what_is_not_kept_is_none_and_a_malformed_key_an_error(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "none yet")
    assert store.get(key(1)) is None
    assert not store.folder.exists()
    for malformed in ("../../etc/passwd", "", "AB" * 32, "abcdefg0" * 8):
        with pytest.raises(ValueError, match="is no key: expected 8 to 128 lower-case hexadecimal digits"):
            store.get(malformed)


def test_a_key_put_again_is_replaced(tmp_path: Path) -> None:
    import torch

    store = FeatureStore(tmp_path)
    store.put(key(1), features(1), {"turn": "1"})
    store.put(key(1), features(2), {"turn": "2"})
    found = store.get(key(1))
    assert found is not None
    assert torch.equal(found[0]["image_embeds"], features(2)["image_embeds"])
    assert found[1] == {"turn": "2"}
    assert store._total_bytes == store.path(key(1)).stat().st_size


def test_what_was_not_used_for_long_goes_first_down_to_nine_tenths(tmp_path: Path) -> None:
    """Ten files of one size fill the bound; the eleventh removes two: 9 files are 90% of it."""
    probe = FeatureStore(tmp_path / "probe")
    probe.put(key(0), features(), {})
    size = probe.path(key(0)).stat().st_size
    store = FeatureStore(tmp_path / "features", max_bytes=10 * size)
    for number in range(10):
        store.put(key(number), features(number), {})
        age(store, number, days=20 - number)
    assert len(kept(store)) == 10
    assert store.get(key(0)) is not None, "a use, which puts off its removal"
    store.put(key(10), features(10), {})
    gone = {key(number) for number in range(11)} - kept(store)
    assert len(gone) == 2 and gone <= {key(number) for number in range(1, 7)}, "of the half used longest ago"
    assert store._total_bytes == 9 * size


def test_passes_over_a_set_larger_than_the_bound_find_some_of_it(tmp_path: Path) -> None:
    probe = FeatureStore(tmp_path / "probe")
    probe.put(key(0), features(), {})
    store = FeatureStore(tmp_path / "features", max_bytes=20 * probe.path(key(0)).stat().st_size)
    hits = 0
    for turn in range(6):
        for number in range(30):
            if store.get(key(number)) is None:
                store.put(key(number), features(number), {})
                age(store, number, days=100 - turn * 10 - number / 10)
            else:
                hits += 1
    assert hits > 20, "the oldest alone would go each time, and nothing would ever be found"


def test_what_is_written_behind_the_callers_back_is_there_after_a_flush(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features")
    for number in range(5):
        store.put_soon(key(number), features(number), {})
    store.flush()
    assert kept(store) == {key(number) for number in range(5)}


def test_a_use_is_marked_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path)
    store.put(key(1), features(), {})
    age(store, 1, days=1)
    marked: list[Path] = []
    utime = os.utime

    def counted(path: Path, times: tuple[float, float]) -> None:
        marked.append(path)
        utime(path, times)

    monkeypatch.setattr(feature_store.os, "utime", counted)
    for _ in range(5):
        store.get(key(1))
    assert marked == [store.path(key(1))]
    assert abs(store.path(key(1)).stat().st_mtime - time.time()) < 60


def test_what_others_wrote_and_removed_is_counted(tmp_path: Path) -> None:
    probe = FeatureStore(tmp_path / "probe")
    probe.put(key(0), features(), {})
    size = probe.path(key(0)).stat().st_size
    bound = 100 * size
    first, second = (FeatureStore(tmp_path / "features", bound) for _ in range(2))
    for number in range(0, 240, 2):
        first.put(key(number), features(number), {})
        second.put(key(number + 1), features(number), {})
    assert len(kept(first)) <= 105, "two writers pass the bound by a few per cent at most"
    for path in list(first.folder.rglob("*.safetensors")):
        path.unlink()
    for number in range(120):
        first.put(key(number), features(number), {})
    assert 85 <= len(kept(first)) <= 100, "and what is gone doesn't count for long"


def test_a_file_removed_by_somebody_else_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = FeatureStore(tmp_path, max_bytes=4000)
    for number in range(3):
        store.put(key(number), features(number), {})
        age(store, number, days=20 - number)
    unlink = Path.unlink

    def too_late(self: Path, missing_ok: bool = False) -> None:
        unlink(self)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", too_late)
    store.put(key(3), features(3), {})
    assert key(3) in kept(store)
    assert len({key(0), key(1)} & kept(store)) == 1
    assert caplog.records == []


def test_features_beyond_the_bound_are_not_kept_and_push_nothing_out(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, max_bytes=5000)
    store.put(key(1), features(1), {})
    store.put(key(2), features(2, count=10_000), {})
    assert kept(store) == {key(1)}


def test_temporary_files_left_behind_are_removed_when_old(tmp_path: Path) -> None:
    folder = tmp_path / "ab"
    folder.mkdir()
    for name, days in (("old", 1.0), ("new", 0.0)):
        partial = folder / f".partial-{name}"
        partial.write_bytes(b"half")
        os.utime(partial, (time.time() - days * DAY_SECONDS,) * 2)
    FeatureStore(tmp_path).put(key(1), features(), {})
    assert [path.name for path in folder.iterdir()] == [".partial-new"]


def _cut_short(content: bytes) -> bytes:
    return content[:-7]


def _flipped_in_a_tensor(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize(
    "damage",
    [
        _cut_short,
        _flipped_in_a_tensor,
        lambda content: b"",
        lambda content: b"notes",
        lambda content: bytes(len(content)),
        lambda content: content[:30] + b"\xff" + content[31:],
        lambda content: content + b"more",
    ],
    ids=["cut short", "a bit flipped", "empty", "text", "zeros", "header", "longer"],
)
def test_a_damaged_file_is_deleted_and_logged(damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FeatureStore(tmp_path)
    store.put(key(1), features(), {"a": "b"})
    path = store.path(key(1))
    path.write_bytes(damage(path.read_bytes()))
    assert store.get(key(1)) is None
    assert not path.exists()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "are damaged" in record.getMessage()
    store.put(key(1), features(), {"a": "b"})
    assert store.get(key(1)) is not None


def test_a_safetensors_file_from_elsewhere_is_taken_for_damaged(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    store = FeatureStore(tmp_path)
    store.path(key(1)).parent.mkdir()
    save_file(features(), store.path(key(1)))
    assert store.get(key(1)) is None


@contextmanager
def folder_that_cannot_be_written(folder: Path) -> Iterator[None]:
    """Removes the right to write; root, whom rights don't stop, becomes nobody meanwhile."""
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_read_only_folder_is_read_and_one_warning_logged(caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        store = FeatureStore(folder)
        store.put(key(1), features(), {})
        age(store, 1, days=1)
        with folder_that_cannot_be_written(folder):
            for number in range(2, 5):
                store.put(key(number), features(), {})
            assert store.get(key(1)) is not None
            assert store.get(key(2)) is None
        assert kept(store) == {key(1)}
        (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
        assert "Permission denied" in record.getMessage()
        assert str(folder) in record.getMessage()
        store.put(key(2), features(), {})
        assert kept(store) == {key(1), key(2)}


def test_a_folder_below_a_file_keeps_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    store = FeatureStore(tmp_path / "file" / "features")
    store.put(key(1), features(), {})
    assert store.get(key(1)) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_full_disk_keeps_nothing_and_leaves_nothing_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A limit on the size of a file stops the writing as a full disk does, in the middle of it."""
    store = FeatureStore(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        for number in range(3):
            store.put(key(number), features(count=100_000), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert [record.levelno for record in caplog.records if record.levelno > logging.DEBUG] == [logging.WARNING]
    store.put(key(1), features(), {})
    assert store.get(key(1)) is not None


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, max_bytes=20_000)
    wrong: list[object] = []

    def work(offset: int) -> None:
        import torch

        try:
            for turn in range(60):
                number = (turn * 7 + offset) % 25
                store.put(key(number), features(number), {"number": str(number)})
                found = store.get(key(number))
                right = found is None or (
                    found[1] == {"number": str(number)}
                    and torch.equal(found[0]["image_embeds"], features(number)["image_embeds"])
                )
                if not right:
                    wrong.append(number)
        except Exception as error:  # noqa: BLE001  what goes wrong in a thread must reach the test
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store._total_bytes is not None
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 20_000


WRITER = """
import logging, sys, torch
from pathlib import Path
from grounding.feature_store import FeatureStore, feature_key
torch.set_num_threads(1)
logging.basicConfig(level=logging.WARNING)
store = FeatureStore(Path(sys.argv[1]), max_bytes=30_000)
found = 0
for turn in range(150):
    number = (turn * 7 + int(sys.argv[2])) % 40
    key = feature_key(str(number), "model", "")
    store.put(key, {"x": torch.full((250,), float(number))}, {"number": str(number)})
    kept = store.get(key)
    assert kept is None or (kept[0]["x"].eq(number).all() and kept[1] == {"number": str(number)})
    found += kept is not None
print(found)
"""


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen(
            [*command, str(number)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    for writer in writers:
        out, err = writer.communicate(timeout=120)
        assert writer.returncode == 0, err
        assert err == "", "nothing was damaged and nothing failed"
        assert int(out) > 100
    files = list(tmp_path.rglob("*"))
    assert [path for path in files if path.name.startswith(".partial-")] == []
    assert sum(path.stat().st_size for path in files if path.is_file()) <= 30_000 * 1.1


def test_reading_200_kb_takes_less_than_a_millisecond(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.put(key(1), features(count=50_000), {})
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        assert store.get(key(1)) is not None
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3


def test_a_picture_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    Image.new("RGB", (8, 8), "red").save(first)
    second.write_bytes(first.read_bytes())
    Image.new("RGB", (8, 8), "blue").save(other)
    assert picture_sha256(first) == picture_sha256(str(second)) != picture_sha256(other)
    with pytest.raises(PictureError, match="no readable picture"):
        picture_sha256(tmp_path / "none.png")


def test_an_opened_picture_is_known_by_all_that_decides_its_looks(tmp_path: Path) -> None:
    turned = Image.new("RGB", (8, 4), "red")
    turned.getexif()[0x0112] = 6
    palettes = [Image.new("P", (8, 4)) for _ in range(2)]
    palettes[1].putpalette([200, 100, 0])
    clear = Image.new("P", (8, 4))
    clear.info["transparency"] = 0
    different = [
        Image.new("RGB", (8, 4), "red"),
        Image.new("RGB", (4, 8), "red"),
        Image.new("RGB", (8, 4), "blue"),
        Image.new("RGBA", (8, 4), "red"),
        turned,
        *palettes,
        clear,
    ]
    assert len({picture_sha256(picture) for picture in different}) == len(different)
    assert picture_sha256(Image.new("RGB", (8, 4), "red")) == picture_sha256(different[0])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_an_opened_picture_keeps_its_key_after_it_was_decoded(name: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4), "red").save(tmp_path / name, exif=exif)
    with Image.open(tmp_path / name) as fresh, Image.open(tmp_path / name) as decoded:
        decoded.load()
        assert picture_sha256(fresh) == picture_sha256(fresh) == picture_sha256(decoded)


def test_a_damaged_opened_picture_is_a_picture_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with Image.open(path) as picture, pytest.raises(PictureError, match="damaged"):
        picture_sha256(picture)


def test_a_key_is_the_same_everywhere_and_depends_on_all_its_parts() -> None:
    assert feature_key("a", "b", "c") == sha256(b'["boxwright-features/1", "a", "b", "c"]').hexdigest()
    assert len({feature_key(*parts) for parts in (("a", "b", "c"), ("ab", "", "c"), ("a", "c", "b"))}) == 3


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "a"}')
    (folder / "preprocessor_config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("a model")
    for path in folder.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    return folder


def local(folder: Path, dtype: str = "float32", quantize: str = "none") -> str:
    return model_fingerprint(str(folder), folder, None, dtype, quantize)


def test_the_fingerprint_of_a_folder_stays_while_nothing_changes(model_folder: Path) -> None:
    before = local(model_folder)
    (model_folder / "README.md").write_text("a better description")
    assert local(model_folder) == before
    assert model_fingerprint("demo", model_folder / ".." / "model", None, "float32", "none") == before


def test_the_fingerprint_of_a_folder_changes_with_what_makes_features(model_folder: Path) -> None:
    seen = {local(model_folder), local(model_folder, dtype="bfloat16"), local(model_folder, quantize="4bit")}
    config, weights = model_folder / "config.json", model_folder / "model.safetensors"
    config.write_text('{"model_type": "b"}')
    os.utime(config, ns=(10**18, 10**18))
    seen.add(local(model_folder))
    os.utime(weights, ns=(10**18, 10**18 + 1))
    seen.add(local(model_folder))
    weights.write_bytes(b"weights!")
    os.utime(weights, ns=(10**18, 10**18 + 1))
    seen.add(local(model_folder))
    (model_folder / "model-2.safetensors").write_bytes(b"")
    seen.add(local(model_folder))
    assert len(seen) == 7


def test_the_fingerprint_of_a_hub_model_is_its_commit() -> None:
    def hub(commit: str | None, source: str = "owner/model") -> str:
        return model_fingerprint(source, None, commit, "bfloat16", "none")

    assert hub("1a2b") == hub("1a2b")
    assert len({hub("1a2b"), hub("3c4d"), hub("1a2b", "owner/other"), hub(None), hub(None)}) == 5


def test_the_module_imports_without_torch() -> None:
    code = "import grounding.feature_store, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
