"""The route that serves pictures of the workspace by their SHA-256, never by a path."""

from __future__ import annotations

import inspect
import io
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from grounding.errors import PictureError
from grounding.pictures import open_picture, picture_size_wh
from grounding.workspace import Workspace

SIDES_PX = (160, 320, 640, 1280)
THUMBNAIL_SIDE_PX = 160
FIGURE_SIDE_PX = 1280
_THUMBNAIL_BYTES_KEPT = 32 * 1024 * 1024
_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_HEADERS = {
    # The address is the hash of the content, so what it names never changes; private, as there may be a log-in.
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def picture_url(sha256: str, side_px: int | None = None) -> str:
    """Address of a picture relative to the page, so it holds behind a proxy path as well."""
    return f"pictures/{sha256}" + (f"?side={side_px}" if side_px else "")


def figure_url(sha256: str) -> str:
    """Address of a picture for a large view: sharp on a screen, and small over a network."""
    return picture_url(sha256, FIGURE_SIDE_PX)


def thumbnail_url(sha256: str) -> str:
    """Address of a picture for a small view."""
    return picture_url(sha256, THUMBNAIL_SIDE_PX)


def find_picture(workspace: Workspace, sha256: str) -> Path:
    """Where the picture stands: the data set first, then the uploads. Raises `PictureError`."""
    try:
        return workspace.pictures.path(sha256)
    except PictureError:
        return workspace.uploads.path(sha256)


class Thumbnails:
    """Small versions of pictures, kept in memory up to 32 MiB: the least recently used go first."""

    def __init__(self, bytes_kept: int = _THUMBNAIL_BYTES_KEPT) -> None:
        self._bytes_kept = bytes_kept
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, path: Path, sha256: str, side_px: int) -> bytes:
        """The picture as WebP, its longer side at most `side_px` pixels. Raises `PictureError`."""
        key = (sha256, side_px)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        content = _webp(path, side_px)
        with self._lock:
            self._kept[key] = content
            while sum(map(len, self._kept.values())) > self._bytes_kept and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return content


def picture_route(workspace: Workspace) -> Route:
    """`GET pictures/{sha256}` and `?side=160`, for `launch(app_kwargs={"routes": [...]})`."""
    thumbnails = Thumbnails()

    async def serve(request: Request) -> Response:
        if not await logged_in(request):
            return PlainTextResponse("Log in first.", status_code=401)
        sha256, side = request.path_params["sha256"], request.query_params.get("side")
        if side is not None and not (side.isascii() and side.isdigit() and 0 < len(side) < 6):
            return PlainTextResponse("side must be a number of pixels.", status_code=400)
        try:
            return await run_in_threadpool(_respond, workspace, thumbnails, sha256, int(side) if side else None)
        except PictureError as error:
            return PlainTextResponse(str(error), status_code=404)

    return Route("/pictures/{sha256}", serve, methods=["GET"], name="boxwright_picture")


async def logged_in(request: Request) -> bool:
    """Whether this request may see the app: always without a log-in, else with gradio's own session cookie."""
    app = request.app
    dependency = getattr(app, "auth_dependency", None)
    if dependency is not None:
        user = dependency(request)
        return (await user if inspect.isawaitable(user) else user) is not None
    if getattr(app, "auth", None) is None:
        return True
    # As gradio.routes.App.create_app's get_current_user, which is a closure and can't be called from here.
    cookie = request.cookies.get(f"access-token-{app.cookie_id}")
    return app.tokens.get(cookie or request.cookies.get(f"access-token-unsecure-{app.cookie_id}")) is not None


def _respond(workspace: Workspace, thumbnails: Thumbnails, sha256: str, side_px: int | None) -> Response:
    path = find_picture(workspace, sha256)
    media_type = _MEDIA_TYPES.get(path.suffix)
    side_px = _served_side(side_px)
    if media_type and (side_px is None or max(picture_size_wh(path)) <= side_px):
        return FileResponse(path, media_type=media_type, headers=_HEADERS)
    content = thumbnails.get(path, sha256, side_px or SIDES_PX[-1])
    return Response(content, media_type="image/webp", headers=_HEADERS)


def _served_side(side_px: int | None) -> int | None:
    """The next of a few sizes, so that nobody fills the memory with one picture in a thousand sizes."""
    if side_px is None:
        return None
    return next((side for side in SIDES_PX if side >= side_px), SIDES_PX[-1])


def _webp(path: Path, side_px: int) -> bytes:
    picture = open_picture(path)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=86, method=2)
    return content.getvalue()
