"""A bucket of Google Cloud Storage on this machine: gcp-storage-emulator, as a process of its own.

The emulator ignores preconditions and ranges that count from the end, and does not tell an
object's generation with its content; `serve` adds these, since leases and array_record need them.
"""

import contextlib
import http.client
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

from tests.support.launches import free_port

BUCKET = "runs"
ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS = 60
REFUSAL = "Anonymous caller does not have storage.objects.list access to the bucket."


class ObjectStore:
    """A running emulator whose objects survive `stop` and `start`; used as a context.

    Attributes:
      url: of its API.
      folder: where the bucket's objects lie, as files of the same names.
      environment: variables with which the libraries find it.
    """

    def __init__(self, folder: pathlib.Path, *, refuse: bool = False):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder / ".cloudstorage" / BUCKET
        self.environment = {
            "STORAGE_EMULATOR_HOST": self.url,  # gcsfs, google-cloud-storage
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": self.url,  # array_record
            "FSSPEC_GCS_TOKEN": "anon",
        }
        self._command = [sys.executable, "-m", __name__, str(port), str(folder), str(int(refuse))]
        self._process = None

    def __enter__(self) -> "ObjectStore":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, again while its port is taken, and wait until it answers."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(self._command, cwd=ROOT, stderr=subprocess.DEVNULL)
            with contextlib.suppress(OSError, http.client.HTTPException):
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            time.sleep(0.05)
        raise TimeoutError(self.url)

    def stop(self) -> None:
        """Kill the server: connections are refused from now on."""
        self._process.kill()
        self._process.wait()


def serve(port: int, folder: str, *, refuse: bool) -> None:
    """Run the emulator with its objects in a folder; `refuse` answers every request with 401."""
    from gcp_storage_emulator import server

    class Handler(server.RequestHandler):
        """What the emulator lacks."""

        def handle_one(self, answer) -> None:
            if refuse and self.path != "/":
                self._answer(401, REFUSAL)
                return
            held = self._object()
            if not self._precondition_holds(held):
                self._answer(412, "the precondition does not hold")
                return
            suffix = re.fullmatch(r"bytes=-(\d+)", self.headers.get("Range") or "")
            if suffix and held:
                first = max(int(held["size"]) - int(suffix[1]), 0)
                self.headers.replace_header("Range", f"bytes={first}-")
            self._generation = held["generation"] if held else None
            answer()

        def _answer(self, status: int, message: str) -> None:
            content = json.dumps({"error": {"code": status, "message": message}}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _query(self) -> dict[str, list[str]]:
            return urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)

        def _object(self) -> dict | None:
            """The metadata of the object that the request names."""
            path = urllib.parse.urlsplit(self.path).path
            match = re.search(r"/b/([^/]+)/o(?:/([^/]+))?$", path) or re.fullmatch(
                r"/([^/]+)/(.+)", path
            )
            name = match and (match[2] or self._query().get("name", [None])[0])
            if not name:
                return None
            with contextlib.suppress(Exception):  # the emulator's own kinds of "not found"
                return self.storage.get_file_obj(match[1], urllib.parse.unquote(name))
            return None

        def _precondition_holds(self, held: dict | None) -> bool:
            wanted = self._query().get("ifGenerationMatch")
            return not wanted or wanted[0] == (held["generation"] if held else "0")

        def end_headers(self) -> None:
            if self.command == "GET" and self._generation:
                self.send_header("x-goog-generation", self._generation)
            super().end_headers()

        _generation = None

        def do_GET(self):
            self.handle_one(super().do_GET)

        def do_POST(self):
            self.handle_one(super().do_POST)

        def do_PUT(self):
            self.handle_one(super().do_PUT)

        def do_DELETE(self):
            self.handle_one(super().do_DELETE)

    server.RequestHandler = Handler
    server.create_server("127.0.0.1", port, data_dir=folder, default_bucket=BUCKET).run()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], refuse=bool(int(sys.argv[3])))
