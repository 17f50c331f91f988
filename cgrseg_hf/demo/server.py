# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Serving the page: from one folder of its own, to one address, with nothing fetched from elsewhere."""

import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..utils.optional import import_optional
from .examples import PHOTOS

if TYPE_CHECKING:
    from .limits import Limits
    from .models import ModelShelf

# Uploads of more bytes are refused as they arrive. JPEG and PNG files of many pixels are smaller.
_BYTES_PER_PIXEL = 4
_LEAST_BYTES = 2**20

# What the browser may load: this server's own files. Gradio's page holds scripts and styles in its text.
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
_HEADERS = {
    b"content-security-policy": _CONTENT_SECURITY_POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


def import_gradio() -> ModuleType:
    """
    Import Gradio, which reports its use to nobody from here.

    Raises:
        ImportError: If it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    return import_optional("gradio", "demo", "Web pages")


def listen(host: str, port: int) -> socket.socket:
    """
    Take an address and a port to serve on; 0 takes a free one.

    Raises:
        OSError: If they cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. Choose another --port or --host."
        ) from error


def serve(
    listener: socket.socket, shelf: "ModelShelf", limits: "Limits", queue_size: int, say: Callable[[str], None] = print
) -> None:
    """
    Serve the page until the process is ended.

    Args:
        listener (`socket.socket`): Where visitors come in, see [`listen`].
        shelf ([`ModelShelf`]): The models to choose from.
        limits ([`Limits`]): What one photo may cost.
        queue_size (`int`): Visitors that may wait.
        say (`Callable`, *optional*, defaults to `print`): Takes the page's address once it can be opened.

    Raises:
        ImportError: If Gradio is not installed.
    """
    gradio = import_gradio()
    import fastapi  # these come with Gradio
    import uvicorn

    host, port = listener.getsockname()[:2]
    with tempfile.TemporaryDirectory(prefix="cgrseg-demo-") as name:
        folder = Path(name)
        os.environ["GRADIO_TEMP_DIR"] = str(folder)  # of uploads, and of what the page shows
        from .page import STYLE, make_page, make_theme
        from .session import PhotoDesk

        page = make_page(shelf, PhotoDesk(limits), folder, queue_size)
        app = gradio.mount_gradio_app(
            fastapi.FastAPI(openapi_url=None),
            page,
            "",
            server_name=host,
            server_port=port,
            footer_links=[],
            run_history=False,
            allowed_paths=[str(PHOTOS)],
            show_error=False,
            max_file_size=max(_BYTES_PER_PIXEL * limits.max_pixels, _LEAST_BYTES),
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=make_theme(),
            css_paths=STYLE,
        )
        page.has_launched = True  # or Gradio takes any path that a browser names for a file that was uploaded
        say(f"The page is at http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl+C ends it)")
        config = uvicorn.Config(_AddHeaders(app), log_level="warning", timeout_graceful_shutdown=3)
        # Uvicorn ends in good order and then passes the signal on: the folder has to be deleted after that.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


class _AddHeaders:
    """An ASGI application whose answers carry the headers above."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.lower() not in _HEADERS]
                message = {**message, "headers": [*kept, *_HEADERS.items()]}
            await send(message)

        await self.app(scope, receive, send_with_headers)
