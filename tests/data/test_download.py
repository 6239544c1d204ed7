"""Downloads, from a server on this machine that can go wrong."""

import contextlib
import gzip
import hashlib
import re
import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from small_set import CONTENTS, decoded, one_line, small_source

from seqlab.data import catalogue, download, files, prepared
from seqlab.errors import InputError


class Server(ThreadingHTTPServer):
    """Serves CONTENTS; `fault` says what goes wrong."""

    daemon_threads = True
    fault = ""
    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.server.fault == "absent":
            self.send_error(404)
            return
        content = CONTENTS[self.path[1:]]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.server.fault == "altered":
            content = content.replace(b"a", b"b", 1)
        if self.server.fault == "cut":
            content = content[: len(content) // 2]
        if self.server.fault == "slow":
            time.sleep(0.05)
            self.wfile.write(content[:1])
            time.sleep(5)
            return
        if self.server.fault == "drop by drop":
            for i in range(100):
                self.wfile.write(content[i : i + 1])
                time.sleep(0.05)
            return
        self.wfile.write(content)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client of a slow server hangs up
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


def from_loopback(port: int, seconds: float = 10.0):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    source = small_source(url=f"http://127.0.0.1:{port}/")

    def fetch(original: files.Original) -> bytes:
        return download.fetch(original, opener=opener, seconds=seconds)

    return source, fetch


def test_prepare_downloads_what_is_not_there(cache, original, server):
    (original / "ptb" / "ptb.valid.txt.gz").unlink()
    source, fetch = from_loopback(server.server_port)
    assert prepared.prepare(source, fetch) == source.folder
    assert server.requests == 1
    prepared.prepare(source, fetch)
    assert server.requests == 1  # what is whole is not prepared again
    assert decoded(prepared.load(source), "valid").count("<eos>") == 30


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("absent", r"cannot be downloaded \(HTTP Error 404: Not Found\)"),
        ("altered", "expected .* bytes, sha256 .* found .* bytes, sha256 "),
        ("cut", "expected .* bytes, sha256 .* found .* bytes, sha256 |IncompleteRead"),
        ("slow", "not downloaded within 0.4 s"),
        ("drop by drop", "not downloaded within 0.4 s"),
    ],
)
def test_faulty_download_is_one_line_and_leaves_nothing(fault, problem, cache, server):
    server.fault = fault
    source, fetch = from_loopback(server.server_port, seconds=0.4 if "within" in problem else 10.0)
    start = time.monotonic()
    with pytest.raises(InputError, match=problem) as caught:
        prepared.prepare(source, fetch)
    assert one_line(caught).startswith(source.originals[0].url)
    assert time.monotonic() - start < 3
    assert not cache.exists()


def test_unreachable_server_is_one_line(cache):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    source, fetch = from_loopback(port)
    with pytest.raises(InputError, match=r"cannot be downloaded .*SEQLAB_DATA") as caught:
        prepared.prepare(source, fetch)
    one_line(caught)


@pytest.mark.parametrize("scheme", ["http", "ftp", "file"])
def test_only_https_is_opened(scheme, server):
    url = f"{scheme}://127.0.0.1:{server.server_port}/ptb/ptb.valid.txt"
    with pytest.raises(InputError, match=r"cannot be downloaded \(unknown url type"):
        download.fetch(small_source().originals[1]._replace(url=url), seconds=5)
    assert server.requests == 0


def test_every_published_address_is_https_and_pinned_to_a_commit():
    for source in catalogue.SOURCES.values():
        for original in source.originals:
            if original.url is None:  # then the person is told which commit it was made from
                assert re.search(r"github\.com/[\w/-]+ at commit [0-9a-f]{40}\b", original.origin)
                continue
            assert re.match(
                r"https://raw\.githubusercontent\.com/[\w/-]+/[0-9a-f]{40}/", original.url
            )


@pytest.mark.parametrize("fault", ["", "cut", "altered"])
def test_gzipped_download_is_uncompressed_and_then_verified(fault, server, monkeypatch):
    content = b"abcdefgh" * 1000
    monkeypatch.setitem(CONTENTS, "small.gz", gzip.compress(content, mtime=0))
    digest = hashlib.sha256(content).hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/small.gz"
    original = files.Original("small", len(content), digest, url)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    server.fault = fault
    if not fault:
        assert download.fetch(original, opener=opener) == content
        return
    with pytest.raises(InputError) as caught:
        download.fetch(original, opener=opener)
    assert one_line(caught).startswith(url)


def test_what_has_no_address_says_where_it_is_from():
    original = small_source().originals[0]._replace(url=None, origin="ask the library")
    with pytest.raises(InputError, match=r"train\.txt: there is no download: ask the library$"):
        download.fetch(original)
