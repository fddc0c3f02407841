"""Web servers on loopback, for health checks and for hooks that reload something."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class HealthPage:
    """An HTTP server on loopback that answers with the given statuses in turn, and goes on with the last."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.asked = 0
        self.authorized: list[str] = []  # what came as Authorization

    def __enter__(self) -> HealthPage:
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page.asked += 1
                page.authorized.append(self.headers.get("Authorization", ""))
                status = page.statuses.pop(0) if len(page.statuses) > 1 else page.statuses[0]
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quietly."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/healthz"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class Service:
    """A service on loopback that goes on with what it has loaded until it is told to load again.

    GET /reload loads index.html of what is live, as it is now. GET /healthz: 503 where what it has loaded
    says "bad". Its hook is for after_switch.
    """

    def __init__(self, deploy_to: Path) -> None:
        self.page = deploy_to / "current/index.html"
        self.loaded = ""
        self.reloads = 0

    def __enter__(self) -> Service:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/reload":
                    service.loaded = service.page.read_text()
                    service.reloads += 1
                self.send_response(503 if "bad" in service.loaded and self.path == "/healthz" else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quietly."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    @property
    def hook(self) -> str:
        """What reloads it."""
        return f"curl -sf {self.base}/reload || wget -q -O /dev/null {self.base}/reload"

    @property
    def health(self) -> dict[str, object]:
        """The section of the configuration."""
        return {"url": f"{self.base}/healthz", "timeout": 1}

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
