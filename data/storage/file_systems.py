"""From the URI of an object store to its pyarrow file system, and what its errors mean.

Credentials and endpoint come from the environment, never from a URI.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from ..errors import UserError
from ..escaping import redacted

Location = str | Path
"""A local path, or a URI."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_NEARLY = re.compile(r"(?i)(s3|gcs?|gs|abfss?|hdfs|viewfs|file|https?|fsspec\+\w+):")  # a scheme, whatever follows
_FIRST_ATTEMPTS, _ATTEMPTS = 2, 10  # of S3: half a second to find out that nobody listens; half a minute once at work
_CONNECT_SECONDS = 5.0
_SAYS = "docs/how-to/object-storage.md says how."
_DENIED = r"ACCESS_DENIED|ACCESS_KEY_ID|SIGNATURE|TOKEN|CREDENTIALS|HTTP status 403|Forbidden|[Pp]ermission"
# What the clients of object stores say -> what it means, and what to do.
_TROUBLES = (
    (
        r"NO_SUCH_BUCKET|NoSuchBucket|Bucket '.*' not found",
        "there is no such bucket",
        "Correct its name, or create it.",
    ),
    (
        _DENIED,
        "access is denied",
        f"Give credentials that may use it in the environment, as AWS_ACCESS_KEY_ID or AWS_PROFILE; {_SAYS}",
    ),
    (r"HTTP status 301", "the bucket is in another region", "Set AWS_REGION to that one, or leave it unset."),
    (
        r"NETWORK_CONNECTION|TIMEOUT|UNAVAILABLE|curlCode|[Tt]imed out|resolve host|[Cc]onnection",
        "the object store cannot be reached",
        f"Check the network and AWS_ENDPOINT_URL; {_SAYS}",
    ),
    (r"AWS Error|HTTP status|google::cloud|Azure", "the object store refuses", "Run the command again."),
)


class StorageError(UserError):
    """An object store that cannot be reached, or refuses."""


def is_uri(location: Location) -> bool:
    """Whether a location is a URI rather than a local path."""
    return _SCHEME.match(str(location)) is not None


def refuse_secrets(location: str, where: str) -> None:
    """Refuses a URI with a password or options of the connection in it; what is refused is not repeated. And what is nearly a URI.

    Raises:
        UserError: at ``where``.
    """
    uri, nearly = is_uri(location), _NEARLY.match(location) is not None
    if (uri or nearly) and redacted(location) != location:
        raise UserError(
            where,
            "is a URI that holds credentials or options of a connection",
            f"Write the location alone, e.g. s3://bucket/folder, and the rest in the environment; {_SAYS}",
        )
    if nearly and not uri:
        raise UserError(
            where, f"'{location}' is no URI", "Write the scheme in lower case and two slashes, e.g. s3://bucket/folder."
        )


def local_path(location: Location) -> Path:
    """The path of what can be on this machine's own file systems alone.

    Raises:
        UserError: it is a URI.
    """
    refuse_secrets(str(location), "the command line")
    if is_uri(location):
        raise UserError(
            location, "is a URI, where only a local path will do", "Give a local path, and copy it from or to there."
        )
    return Path(location)


def trouble(location: Location, error: Exception) -> StorageError | None:
    """What to tell where an error is the object store's; None where it says something of the file, or the file is local."""
    if not is_uri(location) or isinstance(error, FileNotFoundError):
        return None
    said = re.sub(r"\s*\(Request ID.*?\)", "", " ".join(str(error).split()))
    for pattern, what, remedy in _TROUBLES:
        if re.search(pattern, said):
            return StorageError(location, f"{what} ({said[:300]})", remedy)
    return None


@contextmanager
def told(location: Location) -> Iterator[None]:
    """Turns what an object store refuses into a `StorageError`; other errors pass."""
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        if (telling := trouble(location, error)) is not None:
            raise telling from error
        raise


def located(uri: Location) -> tuple[fs.FileSystem, str]:
    """The file system of a URI, and the path there."""
    refuse_secrets(str(uri), "the location")
    scheme, _, rest = str(uri).partition("://")
    authority, _, path = rest.partition("/")
    system, base = _system(scheme, authority, endpoint())
    return system, posixpath.join(base, posixpath.normpath(path.strip("/"))) if path.strip("/") else base


@lru_cache
def _system(scheme: str, authority: str, endpoint: str | None) -> tuple[fs.FileSystem, str]:
    """A file system, and where in it the authority of a URI is.

    Raises:
        StorageError: of S3, found out in seconds: nobody answers, or there is no such bucket.
        UserError: no file system goes by that name.
    """
    uri = f"{scheme}://{authority}"
    with told(uri):
        if scheme == "s3":
            _look_for_bucket(_s3(authority, endpoint, _FIRST_ATTEMPTS), authority)
            return _s3(authority, endpoint, _ATTEMPTS), authority
        patience = "?retry_limit_seconds=20" if scheme in ("gs", "gcs") else ""  # its own is a quarter of an hour
        try:
            system, base = fs.FileSystem.from_uri(f"{uri}/{patience}")
        except (pa.ArrowInvalid, ValueError, ImportError) as error:
            raise UserError(uri, f"cannot be opened ({str(error).splitlines()[0]})", _SAYS) from error
        return system, base.rstrip("/") or "/"


def _look_for_bucket(system: fs.FileSystem, bucket: str) -> None:
    try:
        if system.get_file_info(bucket).type == fs.FileType.NotFound:
            raise OSError("NO_SUCH_BUCKET")
    except OSError as error:
        if not re.search(_DENIED, str(error)):  # one may be allowed to see a folder of a bucket, and not the bucket
            raise


def _s3(bucket: str, endpoint: str | None, attempts: int) -> fs.S3FileSystem:
    scheme, _, host = (endpoint or "").rstrip("/").rpartition("://")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(
        endpoint_override=host or None,
        scheme=scheme or "https",
        region=region or (None if endpoint else fs.resolve_s3_region(bucket)),
        connect_timeout=_CONNECT_SECONDS,
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=attempts),
        allow_delayed_open=True,  # a small object is then one request
    )


def endpoint() -> str | None:
    """Address of the S3 service, if it is not that of AWS; part of what the name of a bucket means."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
