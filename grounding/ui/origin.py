"""Refuse requests that change something when another web site sends them."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOriginOnly:
    """ASGI middleware: a browser says where a request comes from, and one from another site gets 403.

    Without it any page that an annotator visits could post to an app on this machine. Programs that are no
    browser send no `Sec-Fetch-Site` and pass.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _READING_METHODS:
            headers = Headers(scope=scope)
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                refusal = PlainTextResponse("Boxwright takes changes only from its own page.", status_code=403)
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)
