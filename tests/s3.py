"""A local S3-compatible server, moto's, and what was asked of it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from pyarrow import fs


class Request(NamedTuple):
    """One request: its method, ``/bucket/key``, query, and the bytes asked for, ``bytes=FIRST-LAST``."""

    method: str
    path: str
    query: str
    range: str


class Bucket:
    """An empty bucket, a pyarrow file system to look into it with, and a way to make the server fail.

    Attributes:
        uri: of the bucket.
        files: the bucket's file system; paths begin with the bucket's name.
        requests: so far; tests clear it.
        fails: says which requests are answered with an error that a client does not try again.
    """

    def __init__(self, uri: str, files: fs.FileSystem):
        self.uri, self.files = uri, files
        self.requests: list[Request] = []
        self.fails: Callable[[Request], bool] = lambda request: False

    def keys(self, folder: str = "") -> list[str]:
        """Objects below a folder, by their names there, sorted; the empty ones that stand for folders left out."""
        base = f"{self.uri}/{folder}".removeprefix("s3://").rstrip("/")
        infos = self.files.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{base}/") for info in infos if info.is_file)

    def put(self, key: str, content: bytes) -> str:
        """Writes an object; its URI."""
        with self.files.open_output_stream(f"{self.uri.removeprefix('s3://')}/{key}") as stream:
            stream.write(content)
        return f"{self.uri}/{key}"

    def get(self, key: str) -> bytes:
        """The content of an object."""
        with self.files.open_input_stream(f"{self.uri.removeprefix('s3://')}/{key}") as stream:
            return stream.read()


@contextmanager
def s3_bucket(name: str) -> Iterator[Bucket]:
    """Starts a server on a free port of this machine, with one bucket; this process and its children use it."""
    from moto.server import ThreadedMotoServer  # takes a second to import

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    files = fs.S3FileSystem(
        access_key="key", secret_key="secret", region="us-east-1", scheme="http",
        endpoint_override=f"{host}:{port}", allow_bucket_creation=True,
    )  # fmt: skip
    files.create_dir(name)
    bucket = Bucket(f"s3://{name}", files)
    assert server._server is not None
    application: Any = server._server.app

    def watched(environment: dict[str, Any], start_response: Any) -> Any:
        request = Request(
            environment["REQUEST_METHOD"], environment["PATH_INFO"], environment["QUERY_STRING"],
            environment.get("HTTP_RANGE", ""),
        )  # fmt: skip
        bucket.requests.append(request)
        if bucket.fails(request):
            start_response("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        return application(environment, start_response)

    server._server.app = watched
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(variable, value)
        try:
            yield bucket
        finally:
            server.stop()
