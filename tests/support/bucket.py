"""Serves buckets on this machine, with faults.

It has the part of Cloud Storage's API that TensorFlow, TensorStore and Google's client use. The
clients are the real ones and do not know about it: `environment` sends their requests through an
HTTPS proxy whose certificates they trust. TensorFlow has no other way to another address. No
package fits: gcp-storage-emulator 2026.7.19 is not such a proxy, and ignores preconditions on
generations, which TensorStore's writes need.
"""

import collections
import contextlib
import dataclasses
import email.parser
import json
import multiprocessing.managers
import os
import pathlib
import random
import re
import signal
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

# A fault comes before anything is done, after it is done but before the answer, in the middle of
# the answer, or as a late answer.
FAULTS = ("unavailable", "throttled", "cut_before", "cut_after", "cut_within", "slow")
PERMISSIONS = (
    "storage.buckets.get",
    *(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list")),
)


@dataclasses.dataclass
class Stored:
    """Holds one object."""

    content: bytes
    generation: int


class Refused(Exception):
    """Gives an answer that is not a success.

    Args:
      status: HTTP's status.
      reason: explanation for people.
    """

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class BucketService:
    """Keeps buckets in memory behind an HTTPS proxy on this machine.

    Args:
      fault_rate: share of storage requests that have a fault.
      seed: decides which requests have a fault, and which kind.
      slow_seconds: how late a slow answer is.

    Its attributes are for its handlers. Tests call its methods, which a proxy has too.
    """

    def __init__(self, fault_rate: float = 0.0, seed: int = 0, slow_seconds: float = 0.2):
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.permissions = frozenset(PERMISSIONS)
        self.slow_seconds = slow_seconds
        self.requests, self.writes, self.retries = 0, 0, 0
        self.faults: collections.Counter[str] = collections.Counter()
        self.lock = threading.RLock()
        self.uploads: dict[str, dict] = {}
        self._fault_rate, self._random = fault_rate, random.Random(seed)
        self._victim: tuple[int, int] | None = None
        self._unanswered: collections.Counter[str] = collections.Counter()
        self._generation = 0
        self._authority = trustme.CA()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("*.googleapis.com").configure_cert(self.tls)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads, self._server.service = True, self

    def start(self, folder: pathlib.Path) -> dict[str, str]:
        """Begins to serve; returns the environment variables that lead the clients here.

        Args:
          folder: gets the certificate, and the key for a service account.
        """
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._authority.cert_pem.write_to_path(folder / "authority.pem")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        account = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "account@project.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": "https://oauth2.googleapis.com/token",
        }
        (folder / "account.json").write_text(json.dumps(account))
        authority = str(folder / "authority.pem")
        return {
            "https_proxy": f"http://127.0.0.1:{self._server.server_port}",
            "GOOGLE_APPLICATION_CREDENTIALS": str(folder / "account.json"),
            "CURL_CA_BUNDLE": authority,  # TensorFlow
            "TENSORSTORE_CA_BUNDLE": authority,
            "REQUESTS_CA_BUNDLE": authority,  # Google's client
            "NO_GCE_CHECK": "true",  # this machine is not Google's
            # TensorFlow's first wait, one second by default.
            "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "10000",
        }

    def make(self, bucket: str) -> None:
        """Makes an empty bucket."""
        self.buckets[bucket] = {}

    def names(self, bucket: str) -> list[str]:
        """Lists the names of a bucket's objects."""
        with self.lock:
            return sorted(self.buckets[bucket])

    def allow(self, permissions: Iterable[str]) -> None:
        """Sets what every caller may do."""
        self.permissions = frozenset(permissions)

    def set_fault_rate(self, rate: float) -> None:
        """Sets the share of requests that have a fault from now on."""
        self._fault_rate = rate

    def kill_after(self, process: int, writes: int) -> None:
        """Kills a process when `writes` more requests that write have arrived.

        The kill comes before the last request is carried out, which then still happens.
        """
        with self.lock:
            self._victim = process, self.writes + writes

    def counts(self) -> dict:
        """Counts requests, requests that write, faults by kind, and repeats after a fault."""
        with self.lock:
            return {
                "requests": self.requests,
                "writes": self.writes,
                "retries": self.retries,
                "faults": dict(self.faults),
            }

    def count_write(self) -> None:
        """Counts a request that writes, and kills the process whose turn it is."""
        with self.lock:
            self.writes += 1
            if self._victim is not None and self.writes == self._victim[1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._victim[0], signal.SIGKILL)

    def save(self, bucket: str, folder: pathlib.Path) -> pathlib.Path:
        """Copies a bucket as it is now into a new folder, without folder markers."""
        with self.lock:
            objects = {
                name: stored.content
                for name, stored in self.buckets[bucket].items()
                if not name.endswith("/")
            }
        for name, content in objects.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    def load(self, bucket: str, folder: pathlib.Path) -> None:
        """Copies a folder's content into a new bucket."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.buckets.setdefault(bucket, {})
            self.put(bucket, str(path.relative_to(folder)), path.read_bytes(), {})

    def next_fault(self, key: str) -> str:
        """Draws and counts a request's fault, "" for none."""
        with self.lock:
            self.requests += 1
            if self._unanswered[key]:
                self._unanswered[key] -= 1
                self.retries += 1
            if self._random.random() >= self._fault_rate:
                return ""
            fault = self._random.choice(FAULTS)
            self.faults[fault] += 1
            if fault != "slow":
                self._unanswered[key] += 1
            return fault

    def bucket(self, name: str) -> dict[str, Stored]:
        """Returns a bucket's objects."""
        if name not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.")
        return self.buckets[name]

    def require(self, permission: str) -> None:
        """Refuses what the caller may not do."""
        if permission not in self.permissions:
            raise Refused(
                403, f"account@project.iam.gserviceaccount.com does not have {permission} access."
            )

    def put(self, bucket: str, name: str, content: bytes, query: dict[str, str]) -> dict:
        """Stores an object at once, if its precondition holds."""
        with self.lock:
            objects = self.bucket(bucket)
            self.check(objects.get(name), query)
            self._generation += 1
            objects[name] = Stored(content, self._generation)
            return describe(bucket, name, objects[name])

    @staticmethod
    def check(found: Stored | None, query: dict[str, str]) -> None:
        """Refuses a request whose precondition on the generation does not hold."""
        generation = found.generation if found else 0
        if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != generation:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        if "ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == generation:
            raise Refused(304, "Not modified")


class _Manager(multiprocessing.managers.BaseManager):
    """Runs a service in a process of its own."""


_Manager.register("BucketService", BucketService)


@contextlib.contextmanager
def bucket_service(
    folder: pathlib.Path, **options: float
) -> Iterator[tuple[BucketService, dict[str, str]]]:
    """Runs a service in a process of its own.

    TensorFlow holds Python's lock while it writes records, so a service in its process could not
    answer.

    Args:
      folder: see `BucketService.start`.
      **options: arguments for `BucketService`.

    Yields:
      A proxy for the service, and the environment variables that lead the clients to it.
    """
    with _Manager(ctx=multiprocessing.get_context("spawn")) as manager:
        service = manager.BucketService(**options)
        yield service, service.start(folder)


def describe(bucket: str, name: str, stored: Stored) -> dict:
    """Describes an object as the JSON API does."""
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "size": str(len(stored.content)),
        "generation": str(stored.generation),
        "metageneration": "1",
        "updated": "2026-01-01T00:00:00.000Z",
        "timeCreated": "2026-01-01T00:00:00.000Z",
    }


class _Handler(BaseHTTPRequestHandler):
    """Handles one connection: CONNECT first, then requests inside TLS."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def do_CONNECT(self):
        self.send_response(200)
        self.end_headers()
        try:
            self.connection = self.server.service.tls.wrap_socket(self.connection, server_side=True)
        except OSError:
            self.close_connection = True
            return
        self.rfile, self.wfile = (
            self.connection.makefile("rb"),
            self.connection.makefile("wb", buffering=0),
        )
        self.close_connection = False

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:  # the client has gone
            self.close_connection = True

    def do_GET(self):
        service, url = self.server.service, urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        body = self._body()
        if body is None:  # cut off, so nothing of it counts
            self.close_connection = True
            return
        if url.path.endswith("/token"):
            self._answer(200, {"access_token": "token", "token_type": "Bearer", "expires_in": 3600})
            return
        asked = (query.get("name"), query.get("prefix"), self.headers.get("Range"))
        key = f"{self.command} {url.path} {' '.join(map(str, asked))}"
        fault = service.next_fault(key)
        if fault == "slow":
            time.sleep(service.slow_seconds)
        if fault in ("unavailable", "throttled"):
            self._answer(
                *((503, "backend error") if fault == "unavailable" else (429, "slow down"))
            )
            return
        if fault == "cut_before":
            self._cut()
            return
        if self.command != "GET":
            service.count_write()
        try:
            answer = self._route(url.path, query, body)
        except Refused as refused:
            answer = refused.status, refused.reason
        if fault == "cut_after":
            self._cut()
            return
        self._answer(*answer, cut=fault == "cut_within")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def _body(self):
        """Reads a request's body, None if it ends too early."""
        # This encoding overrides a length (RFC 9112, 6.3).
        if self.headers.get("Transfer-Encoding") != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            return body if len(body) == length else None
        pieces = []
        while line := self.rfile.readline():
            length = int(line, 16)
            piece = self.rfile.read(length)
            if len(piece) < length or not self.rfile.readline():
                return None
            if not length:
                return b"".join(pieces)
            pieces.append(piece)
        return None

    def _cut(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    def _answer(self, status, content=b"", headers=None, cut=False):
        if isinstance(content, str):
            content = {
                "error": {"code": status, "message": content, "errors": [{"message": content}]}
            }
        body = json.dumps(content).encode() if isinstance(content, dict) else content
        if status in (204, 304):  # answers without a body (RFC 9110, 6.4.1)
            body = b""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header(
            "Content-Type",
            "application/json" if isinstance(content, dict) else "application/octet-stream",
        )
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cut:
            self.wfile.write(body[: len(body) // 2])
            self._cut()
        else:
            self.wfile.write(body)

    def _route(self, path, query, body):
        """Answers a request with (status, content, headers)."""
        if "Authorization" not in self.headers:
            raise Refused(401, "Anonymous caller does not have storage access.")
        parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
        if parts[:3] == ["upload", "storage", "v1"]:
            return self._upload(parts[4], query, body)
        if parts[:2] != ["storage", "v1"]:  # the XML API, with which TensorFlow reads
            return self._read(parts[0], "/".join(parts[1:]), query)
        bucket, rest = parts[3], parts[4:]
        if rest == ["iam", "testPermissions"]:
            self.server.service.bucket(bucket)
            asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["permissions"]
            return 200, {
                "permissions": [name for name in asked if name in self.server.service.permissions]
            }
        if not rest:
            self.server.service.require("storage.buckets.get")
            self.server.service.bucket(bucket)
            return 200, {"kind": "storage#bucket", "name": bucket, "location": "US"}
        if rest == ["o"]:
            return self._list(bucket, query)
        return self._object(bucket, rest[1], rest[2:], query)

    def _object(self, bucket, name, rest, query):
        service = self.server.service
        if self.command == "GET":
            if query.get("alt") == "media":
                return self._read(bucket, name, query)
            service.require("storage.objects.get")
            return 200, describe(bucket, name, self._found(bucket, name))
        if rest and rest[0] == "rewriteTo":
            service.require("storage.objects.create")
            content = self._found(bucket, name).content
            return 200, {"done": True, "resource": service.put(rest[2], rest[4], content, query)}
        if self.command == "DELETE":
            service.require("storage.objects.delete")
            with service.lock:
                service.check(self._found(bucket, name), query)
                del service.buckets[bucket][name]
            return 204, b""
        raise Refused(501, f"{self.command} {self.path} is not known here")

    def _found(self, bucket, name):
        objects = self.server.service.bucket(bucket)
        if name not in objects:
            raise Refused(404, f"No such object: {bucket}/{name}")
        return objects[name]

    def _read(self, bucket, name, query):
        self.server.service.require("storage.objects.get")
        stored = self._found(bucket, name)
        self.server.service.check(stored, query)
        headers = {
            "x-goog-generation": str(stored.generation),
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return 200, stored.content, headers
        size = len(stored.content)
        first, last = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
        if first >= size:
            return 416, b"", {**headers, "Content-Range": f"bytes */{size}"}
        return (
            206,
            stored.content[first : last + 1],
            {**headers, "Content-Range": f"bytes {first}-{last}/{size}"},
        )

    def _list(self, bucket, query):
        service = self.server.service
        service.require("storage.objects.list")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, prefixes = [], []
        with service.lock:
            names = sorted(service.bucket(bucket))
            for name in names:
                if not name.startswith(prefix) or name < query.get("startOffset", ""):
                    continue
                if "endOffset" in query and name >= query["endOffset"]:
                    continue
                place = name.find(delimiter, len(prefix)) if delimiter else -1
                if place < 0:
                    items.append(describe(bucket, name, service.buckets[bucket][name]))
                elif name[: place + 1] not in prefixes:
                    prefixes.append(name[: place + 1])
        start, count = int(query.get("pageToken", 0)), int(query.get("maxResults", 1000))
        entries = [*items, *prefixes][start : start + count]
        answer = {
            "kind": "storage#objects",
            "items": [entry for entry in entries if isinstance(entry, dict)],
            "prefixes": [entry for entry in entries if isinstance(entry, str)],
        }
        if start + count < len(items) + len(prefixes):
            answer["nextPageToken"] = str(start + count)
        return 200, answer

    def _upload(self, bucket, query, body):
        service = self.server.service
        service.require("storage.objects.create")
        service.bucket(bucket)
        if "upload_id" in query:
            return self._resume(bucket, query["upload_id"], body)
        if query["uploadType"] == "resumable":
            with service.lock:
                upload = str(len(service.uploads))
                name = query["name"] if "name" in query else json.loads(body)["name"]
                service.uploads[upload] = {
                    "name": name,
                    "query": query,
                    "content": b"",
                    "done": None,
                }
            where = f"https://{self.headers['Host']}{self.path}&upload_id={upload}"
            return 200, b"", {"Location": where}
        if query["uploadType"] == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            told, content = email.parser.BytesParser().parsebytes(head + body).get_payload()
            return 200, service.put(
                bucket,
                json.loads(told.get_payload())["name"],
                content.get_payload(decode=True),
                query,
            )
        return 200, service.put(bucket, query["name"], body, query)

    def _resume(self, bucket, upload, body):
        service = self.server.service
        with service.lock:
            state = service.uploads[upload]
            if state["done"] is None:
                told = re.fullmatch(
                    r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)",
                    self.headers.get("Content-Range") or f"bytes 0-{len(body) - 1}/*",
                )
                if told and told[1]:
                    state["content"] = state["content"][: int(told[1])] + body
                total = told[3] if told and told[3] != "*" else None
                whole = total is not None and len(state["content"]) == int(total)
                if not self.headers.get("Content-Range") or whole:
                    state["content"] = state["content"] if whole else body
                    state["done"] = service.put(
                        bucket, state["name"], state["content"], state["query"]
                    )
            if state["done"] is not None:
                return 200, state["done"]
            received = len(state["content"])
            return 308, b"", {"Range": f"bytes=0-{received - 1}"} if received else {}
