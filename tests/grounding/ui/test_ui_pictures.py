"""Pictures go out by their id alone, small when asked, and to nobody who is not logged in."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from grounding.errors import PictureError
from grounding.ui.origin import SameOriginOnly
from grounding.ui.pictures import Thumbnails, picture_route, picture_url
from grounding.workspace import Workspace


@pytest.fixture
def client(workspace: Workspace) -> TestClient:
    return TestClient(Starlette(routes=[picture_route(workspace)], middleware=[Middleware(SameOriginOnly)]))


@pytest.fixture
def large(workspace: Workspace, tmp_path: Path) -> str:
    Image.effect_noise((900, 300), 60).convert("RGB").save(tmp_path / "large.png")
    return workspace.pictures.add(tmp_path / "large.png")[0]


def test_the_original_goes_out_unchanged_with_safe_headers(
    client: TestClient, workspace: Workspace, large: str
) -> None:
    response = client.get(f"/{picture_url(large)}")
    assert response.status_code == 200
    assert response.content == workspace.pictures.path(large).read_bytes()
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "max-age=31536000" in response.headers["cache-control"]


@pytest.mark.parametrize(("asked", "served"), [(160, 160), (1, 160), (200, 320), (99999, 900)])
def test_a_thumbnail_comes_in_one_of_a_few_sizes(client: TestClient, large: str, asked: int, served: int) -> None:
    response = client.get(f"/{picture_url(large, asked)}")
    with Image.open(io.BytesIO(response.content)) as picture:
        assert max(picture.size) == served
        assert picture.size[0] / picture.size[1] == pytest.approx(3, rel=0.02)


def test_an_upload_is_found_too(client: TestClient, workspace: Workspace, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "mine.bmp")
    sha256, _ = workspace.uploads.add(tmp_path / "mine.bmp")
    response = client.get(f"/pictures/{sha256}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/webp", "a browser need not know BMP or TIFF"


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/../annotations.db",
        "/pictures/..%2Fannotations.db",
        "/pictures/%2Fetc%2Fpasswd",
        "/pictures/" + "0" * 63 + "*",
        "/pictures/" + "A" * 64,
        "/pictures/",
    ],
)
def test_nothing_but_an_id_finds_a_file(client: TestClient, workspace: Workspace, large: str, path: str) -> None:
    workspace.annotations_db.write_text("secret")
    response = client.get(path)
    assert response.status_code == 404
    assert "secret" not in response.text


def test_an_unknown_id_is_404_with_a_sentence(client: TestClient, unknown_sha256: str) -> None:
    response = client.get(f"/pictures/{unknown_sha256}")
    assert response.status_code == 404
    assert "no picture with the id" in response.text


@pytest.mark.parametrize("side", ["-1", "abc", "1e3", "999999", "²"])
def test_a_bad_side_is_refused(client: TestClient, large: str, side: str) -> None:
    assert client.get(f"/pictures/{large}", params={"side": side}).status_code == 400


@pytest.mark.parametrize(("cookie", "status"), [("", 401), ("wrong", 401), ("right", 200)])
def test_with_a_log_in_only_its_session_sees_pictures(
    workspace: Workspace, large: str, cookie: str, status: int
) -> None:
    app = Starlette(routes=[picture_route(workspace)])
    vars(app).update(auth=object(), auth_dependency=None, cookie_id="c", tokens={"right": "ann"})
    client = TestClient(app, cookies={"access-token-c": cookie} if cookie else {})
    assert client.get(f"/pictures/{large}").status_code == status


def test_thumbnails_stay_within_their_memory(workspace: Workspace, tmp_path: Path) -> None:
    thumbnails = Thumbnails(bytes_kept=12_000)
    for number in range(6):
        Image.effect_noise((400, 400), 50 + number).convert("RGB").save(tmp_path / f"{number}.png")
        sha256, _ = workspace.pictures.add(tmp_path / f"{number}.png")
        assert thumbnails.get(workspace.pictures.path(sha256), sha256, 160)
    kept = thumbnails._kept
    assert 1 <= len(kept) < 6
    assert list(kept)[-1][0] == sha256


def test_a_damaged_picture_is_a_sentence_not_a_crash(client: TestClient, workspace: Workspace, large: str) -> None:
    path = workspace.pictures.path(large)
    path.write_bytes(path.read_bytes()[:2000])
    response = client.get(f"/pictures/{large}?side=160")
    assert response.status_code == 404
    assert "damaged" in response.text
    with pytest.raises(PictureError):
        Thumbnails().get(path, large, 160)


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 405), (None, 405)]
)
def test_another_site_can_change_nothing(client: TestClient, large: str, site: str | None, status: int) -> None:
    headers = {"sec-fetch-site": site} if site else {}
    assert client.post(f"/pictures/{large}", headers=headers).status_code == status
    assert client.get(f"/pictures/{large}", headers=headers).status_code == 200


def test_logging_in_may_be_asked_of_a_coroutine(workspace: Workspace, large: str) -> None:
    async def user(request: object) -> str | None:
        return None

    app = Starlette(routes=[picture_route(workspace)])
    vars(app).update(SimpleNamespace(auth=None, auth_dependency=user).__dict__)
    assert TestClient(app).get(f"/pictures/{large}").status_code == 401
