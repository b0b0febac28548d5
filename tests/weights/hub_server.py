"""A local web server that answers like the Hugging Face hub when a file is downloaded."""

import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """The files of the server and the requests it received.

    Attributes:
        files: Contents, by "repository/filename".
        broken: Whether the connection breaks in the middle of every file.
        requests: (method, path) of the requests so far.
    """

    def __init__(self):
        self.files = {}
        self.broken = False
        self.requests = []

    @property
    def downloads(self) -> int:
        """Return how often a file was downloaded. huggingface_hub sends other requests too, such as for metadata."""
        return sum(method == "GET" and "/resolve/" in path for method, path in self.requests)

    def put(self, record, content: bytes) -> None:
        self.files[f"{record.repository}/{record.filename}"] = content


@contextlib.contextmanager
def serve():
    """Run a server and give its address and its `Hub`."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self._answer()

        def do_GET(self):
            self._answer()

        def _answer(self):
            hub.requests.append((self.command, self.path))
            content = hub.files.get(self.path.strip("/").replace("/resolve/main/", "/"))
            self.send_response(404 if content is None else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
                content = b""
            else:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[: len(content) // 2] if hub.broken else content)
                self.close_connection = self.close_connection or hub.broken

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
