"""Who may ask: only pages of this server, on this machine, that know the token in the address.

Other pages that a browser has open, and names that someone points at this machine (DNS
rebinding), are refused by Host and Origin; other users of the machine by the token.
"""

from __future__ import annotations

import secrets

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    # All scripts come from the package; plotly compiles its shaders' code with Function().
    "content-security-policy": "default-src 'none'; script-src 'self' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Pass on what asks for ``/TOKEN/…`` of this host, from this host; refuse all else.

    Parameters
    ----------
    app : ASGI application
        Sees paths without the token.
    token : str
    hosts : collection of str
        Values of the Host header that mean this server, port included.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        self.app, self.token, self.hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        reason, rest = self._judge(scope)
        if reason:
            refused = PlainTextResponse(f"refused: {reason}\n", status_code=403)
            await refused(scope, receive, send_with_headers)
            return
        await self.app(
            {**scope, "path": rest, "raw_path": rest.encode()}, receive, send_with_headers
        )

    def _judge(self, scope: Scope) -> tuple[str, str]:
        """Why a request is refused, or nothing, and its path without the token."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if host not in self.hosts:
            return "this server answers on this machine only", ""
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return "the request comes from another page", ""
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "the request comes from another page", ""
        token, slash, rest = scope["path"].removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.token.encode()) or not slash:
            return "the address lacks the token that `offbragg view` printed", ""
        return "", f"/{rest}"
