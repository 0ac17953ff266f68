"""One small store over a local folder or an s3:// prefix.

Endpoint and credentials come from the usual AWS variables (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_REGION`), never from a URI, a recipe or an execution file, so a store can be pickled, logged and recorded.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import fsspec
from fsspec.utils import glob_translate

from storage.disk import TEMPORARY_PREFIX, flush_folder, refusals, temporary_name
from storage.errors import CaravanError, ConfigError, RetryableError
from storage.proxies import reach_loopback_directly

T = TypeVar("T")

RETRIES = 4
RETRY_BASE_S = 0.2
UPLOAD_CHUNK_BYTES = 8 << 20
SET_ASIDE = ".damaged-"  # in the name of a file that did not verify
MAX_KEYS_PER_DELETE = 1000  # S3's own bound on one request
VERSION_QUERY = "?versionId="  # s3fs takes what follows it in a path for an object's version, and cuts it off
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")  # S3's rule, with what its oldest region allows
_HOST = re.compile(r"(?=.{1,255}$)((?!-)[a-z0-9-]{1,63}(?<!-)\.)*(?!-)[a-z0-9-]{1,63}(?<!-)\.?", re.IGNORECASE)  # botocore's rule
# What botocore raises before it sends anything: the same request would be refused again.
NEVER_SENT = {"ParamValidationError", "EndpointResolutionError", "InvalidRegionError", "InvalidDNSNameError"}
FATAL_CODES = {
    "InvalidBucketName",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "NoSuchBucket",
    "403",
    "401",
    "Forbidden",
}


@dataclass(frozen=True)
class FileInfo:
    """A stored file: `path` relative to the store, `size_bytes`, and `version`: text that changes when the file is written again.

    `version` is the modification time (ns), inode and change time of a local file, the ETag of an object; a hint for caches, never a proof.
    """

    path: str
    size_bytes: int
    version: str = ""


@dataclass(frozen=True)
class Store:
    """A place for bytes, named by `uri`: a folder (`/data`, `file:///data`) or `s3://bucket/prefix`. Paths are relative, with `/`.

    Writes are atomic: a reader sees all of a file or none of it. `durable`: what is written to a folder is on the disk before the call
    returns (an object store answers when it is). Raises `RetryableError` when storage keeps failing, `ConfigError` when it refuses the
    credentials or the bucket, `DiskError` when a disk refuses, `FileNotFoundError` for a missing file.
    """

    uri: str
    durable: bool = True
    kind: str = "the store"  # what a person calls it, in errors of a disk

    def __post_init__(self) -> None:
        if set("@:") & set(self.uri.partition("://")[2].partition("/")[0]):  # no bucket has these in its name; a secret key may hold a "/"
            raise ConfigError("a store URI holds no credentials: give them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        scheme = self.uri.partition("://")[0] if "://" in self.uri else "file"
        if scheme not in ("file", "s3"):
            raise ConfigError(f"store URI {self.uri!r}: the scheme is {scheme!r}, allowed are file and s3")
        bucket = self.uri.removeprefix("s3://").partition("/")[0]
        if scheme == "s3" and not _BUCKET.fullmatch(bucket):
            allowed = "3 or more letters, digits, '.', '-' and '_' of ASCII, a letter or digit first and last"
            raise ConfigError(f"store URI {self.uri!r}: {bucket!r} is no bucket's name: it has to be {allowed}")
        if scheme == "s3" and VERSION_QUERY in self.uri:
            raise ConfigError(f"store URI {self.uri!r}: a prefix must not hold {VERSION_QUERY!r}")

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return not self.uri.startswith("s3://")

    def local_path(self, path: str) -> Path:
        """The path in the local file system of `path` in a local store."""
        assert self.is_local
        return Path(self.uri.removeprefix("file://")).absolute() / path

    def full_path(self, path: str) -> str:
        """The path of `path` as fsspec takes it (no scheme)."""
        if self.is_local:
            return str(self.local_path(path))
        root = self.uri.removeprefix("s3://").rstrip("/")
        return f"{root}/{path}" if path else root

    @property
    def fs(self) -> Any:
        """The fsspec file system under this store, one per process."""
        return _file_system(self.is_local, os.getpid(), _s3_environment())

    def open(self, path: str) -> IO[bytes]:
        """Open `path` for reading bytes; seekable."""
        handle: IO[bytes] = self._try(lambda: self.fs.open(self.full_path(path), "rb"))
        return handle

    def read(self, path: str) -> bytes:
        """All bytes of `path`."""
        # One request on S3: to fetch pieces at once, s3fs first asks for the size, and where there is no file for a listing too.
        options = {} if self.is_local else {"max_concurrency": 1}
        return bytes(self._try(lambda: self.fs.cat_file(self.full_path(path), **options)))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes `start` (inclusive) to `end` (exclusive) of `path`."""
        return bytes(self._try(lambda: self.fs.cat_file(self.full_path(path), start=start, end=end)))

    def write(self, path: str, data: bytes) -> None:
        """Write `path`, replacing what was there."""
        if self.is_local:
            with self.refusals(path, len(data)), self._beside(path, data) as temporary:
                os.replace(temporary, self.local_path(path))
                self.flush_names([path])
        else:
            self._try(lambda: self.fs.pipe_file(self.full_path(path), data))

    def upload(self, local: Path, path: str) -> None:
        """Move the local file `local` into the store as `path`; `local` is gone afterwards.

        In a folder its bytes are those of `local`, flushed or not, and its name is not flushed: see `flush_names`.
        """
        if self.is_local:
            target = self.local_path(path)
            with self.refusals(path):
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(local, target)
        else:
            self._try(lambda: self.fs.put_file(str(local), self.full_path(path), chunksize=UPLOAD_CHUNK_BYTES))
            local.unlink()

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create `path` with `data`, or return False when it exists. Exclusive among all processes that use this store.

        On S3, False can also mean that a try of this very call got through and its answer was lost: callers look at what stands.
        """
        if self.is_local:
            with self.refusals(path, len(data)), self._beside(path, data) as temporary:
                try:
                    os.link(temporary, self.local_path(path))
                except FileExistsError:
                    return False
                self.flush_names([path])
            return True
        return bool(self._try(lambda: self._put_s3_if_absent(path, data)))

    @contextlib.contextmanager
    def _beside(self, path: str, data: bytes) -> Iterator[Path]:
        """A temporary file that holds `data`, in the folder of `path`, so that a rename or a link onto it is atomic; gone afterwards."""
        target = self.local_path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (NotADirectoryError, FileExistsError) as error:
            raise ConfigError(f"store {self.uri}: {target.parent} cannot be written: {error.strerror}") from error
        temporary = target.with_name(temporary_name())
        try:
            with temporary.open("xb") as file:
                file.write(data)
                if self.durable:
                    file.flush()
                    os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def flush_names(self, paths: Iterable[str]) -> None:
        """Let the names of these files, and of the folders they are in, reach the disk, before anything refers to them."""
        if self.is_local and self.durable:
            for folder in sorted({self.local_path(path).parent for path in paths}):
                flush_folder(folder)

    def refusals(self, path: str, needed_bytes: int | None = None) -> contextlib.AbstractContextManager[None]:
        """Raises DiskError for what the disk of a folder refuses inside the block."""
        return refusals(f"{self.kind} {self.local_path('')}", self.local_path(path), needed_bytes)

    def _put_s3_if_absent(self, path: str, data: bytes) -> bool:
        try:
            self.fs.pipe_file(self.full_path(path), data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if _is_precondition_failed(error):
                return False
            raise
        return True

    def exists(self, path: str) -> bool:
        """Whether the file `path` is there."""
        try:  # not `isfile`, which answers False to every error
            return bool(self._try(lambda: self.fs.info(self.full_path(path)))["type"] != "directory")
        except (FileNotFoundError, NotADirectoryError):
            return False

    def size(self, path: str) -> int:
        """Size of `path` in bytes."""
        return int(self._try(lambda: self.fs.size(self.full_path(path))))

    def list_files(self, prefix: str) -> Iterator[FileInfo]:
        """Every file under the folder `prefix` ("" = the whole store), sorted by path."""
        root = self.full_path("")
        found = self._find(prefix)
        for full, info in sorted(found.items()):
            name = full[len(root) :].lstrip("/")
            if not os.path.basename(name).startswith(TEMPORARY_PREFIX):
                yield FileInfo(name, int(info["size"]), _version_of(info))

    def _find(self, folder: str, depth: int | None = None, *, with_folders: bool = False) -> dict[str, dict[str, Any]]:
        """Entries of the files below a folder, by full path. Without `on_error` fsspec leaves out folders that it cannot list."""
        walked = self.is_local or depth is not None  # else one flat listing of a bucket
        options = {"on_error": _raise_unless_gone} if walked else {}
        found: dict[str, dict[str, Any]] = self._try(
            lambda: self.fs.find(self.full_path(folder), maxdepth=depth, withdirs=with_folders, detail=True, **options)
        )
        return found

    def list_temporaries(self, prefix: str) -> Iterator[FileInfo]:
        """Files under the folder `prefix` that a process was writing, or left when it was killed; a bucket has none."""
        if self.is_local:
            root = self.local_path("")
            for folder, folders, names in os.walk(self.local_path(prefix)):
                folders.sort()
                for path in (Path(folder) / name for name in sorted(names) if name.startswith(TEMPORARY_PREFIX)):
                    with contextlib.suppress(FileNotFoundError):  # it has got its name meanwhile
                        yield FileInfo(path.relative_to(root).as_posix(), path.stat().st_size)

    def list_dirs(self, prefix: str) -> list[str]:
        """Names of the folders directly under `prefix`, sorted."""
        try:
            entries = self._try(lambda: self.fs.ls(self.full_path(prefix), detail=True))
        except FileNotFoundError:
            return []
        return sorted(os.path.basename(e["name"].rstrip("/")) for e in entries if e["type"] == "directory")

    def glob(self, pattern: str, skipped: dict[str, str] | None = None) -> list[FileInfo]:
        """Files that match `pattern` (`*`, `**`, `?`, `[…]`), sorted by path. A link to a file is a file; a link to a folder is not
        followed. Only the folder that the pattern names before its first such character is listed.

        `skipped` gets what matches and is no file, by path: a link that leads nowhere, a FIFO, a folder whose name is a file's.
        """
        root, parts = self.full_path("").rstrip("/"), pattern.strip("/").split("/")
        n_plain = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        folder, rest = "/".join(parts[:n_plain]), parts[n_plain:]
        try:
            if rest:
                depth = None if any("**" in part for part in rest) else len(rest)
                is_of_files = skipped is not None and self.is_local and rest[-1].strip("*")  # `*` matches folders, as it should
                found = self._find(folder, depth, with_folders=bool(is_of_files))
            else:
                found = {self.full_path(folder): self._try(lambda: self.fs.info(self.full_path(folder)))}
        except (FileNotFoundError, NotADirectoryError):
            return []
        matches = re.compile(glob_translate(pattern.strip("/"))).match
        files = []
        for full, info in found.items():
            name = full[len(root) :].lstrip("/")
            if rest and not matches(name):
                continue
            if info.get("islink") and os.path.isfile(full):
                info = self.fs.info(os.path.realpath(full))
            if os.path.basename(name).startswith(TEMPORARY_PREFIX):
                continue
            if info["type"] == "file":
                files.append(FileInfo(name, int(info["size"]), _version_of(info)))
            elif skipped is not None:
                skipped[name] = _what_it_is(full, info)
        return sorted(files, key=lambda file: file.path)

    def remove(self, path: str) -> None:
        """Remove the file `path`; one that is not there is no error."""
        try:
            self._try(lambda: self.fs.rm_file(self.full_path(path)))
        except FileNotFoundError:
            return

    def set_aside(self, path: str) -> str:
        """Give the file `path`, which does not verify, another name beside it, so that it can be made again; returns that name."""
        aside = f"{path}{SET_ASIDE}{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            if self.is_local:  # it may be one that cannot be read, on a disk that has no room
                os.rename(self.local_path(path), self.local_path(aside))
            else:
                self.write(aside, self.read(path))
                self.remove(path)
        self.flush_names([path])
        return aside

    def remove_tree(self, prefix: str) -> None:
        """Remove every file under the folder `prefix`, and no other, whatever characters it has."""
        try:
            if self.is_local:
                self._try(lambda: self.fs.rm(self.full_path(prefix), recursive=True))
            else:
                self._remove_objects(sorted(self._find(prefix)))
        except FileNotFoundError:
            return

    def _remove_objects(self, paths: list[str]) -> None:
        """Remove objects by their exact keys; s3fs's own `rm` takes `?`, `*` and `[` in a path for a pattern."""
        for start in range(0, len(paths), MAX_KEYS_PER_DELETE):
            keys = [path.partition("/")[2] for path in paths[start : start + MAX_KEYS_PER_DELETE]]
            self._try(lambda keys=keys: self._delete(keys))  # type: ignore[misc]  # a default of a lambda has no type

    def _delete(self, keys: list[str]) -> None:
        bucket = self.full_path("").partition("/")[0]
        answer = self.fs.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
        if errors := answer.get("Errors"):
            raise OSError(f"{errors[0].get('Code')}: {errors[0].get('Key')} was not removed")

    def _try(self, action: Callable[[], T]) -> T:
        """Run `action`, again with backoff while storage fails in a way that may pass."""
        for attempt in range(RETRIES + 1):
            try:
                return action()
            except CaravanError:
                raise
            except (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError) as error:
                if self.is_local and isinstance(error, NotADirectoryError) and not self.local_path("").is_dir():
                    raise ConfigError(f"store {self.uri}: it is not a folder") from error
                if not self.is_local and (refused := _refusal(error)):  # s3fs says FileNotFoundError when there is no such bucket
                    raise ConfigError(f"store {self.uri}: {refused}; check the bucket and the AWS_* variables") from error
                raise
            except Exception as error:  # s3fs lets botocore's, aiohttp's and its own errors through
                if self.is_local and isinstance(error, PermissionError):
                    with self.refusals(os.path.relpath(str(error.filename or "."), self.local_path(""))):
                        raise
                if self.is_local or _is_precondition_failed(error):
                    raise
                if refused := _refusal(error):
                    raise ConfigError(f"store {self.uri}: {refused}; check the bucket and the AWS_* variables") from error
                if attempt == RETRIES:
                    raise RetryableError(f"store {self.uri}: {type(error).__name__}: {error}") from error
                time.sleep(RETRY_BASE_S * 2**attempt * (0.5 + random.random()))
        raise AssertionError("unreachable")


def _what_it_is(full: str, info: dict[str, Any]) -> str:
    """What a path is that is no file."""
    if info["type"] == "directory":
        return "a folder"
    if os.path.islink(full):
        return "a link to a folder" if os.path.isdir(full) else "a link that leads nowhere"
    return "neither a file nor a folder"


def _version_of(info: dict[str, Any]) -> str:
    """What changes when the file is written again, from an fsspec entry."""
    return str(info["ETag"]) if "ETag" in info else f"{info.get('mtime')!r} {info.get('created')!r} {info.get('ino')}"


S3_VARIABLES = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_SESSION_TOKEN",
)


def _s3_environment() -> tuple[str | None, ...]:
    return tuple(os.environ.get(name) for name in S3_VARIABLES)


def _check_s3_environment(environment: tuple[str | None, ...]) -> None:
    """Raises ConfigError for a variable that no request can be made with; it never repeats a value, which may be a secret."""
    for name, value in zip(S3_VARIABLES, environment, strict=True):
        if value and (held := _unsendable(value)):
            raise ConfigError(f"{name} holds {held}: set it again without (copied from a file, it may have brought its line's end)")
        if value and "ENDPOINT" in name and (wrong := _wrong_endpoint(value)):
            raise ConfigError(f"{name} {wrong}; it has to be like http://127.0.0.1:9000 or https://s3.example.org")


def _unsendable(value: str) -> str | None:
    """What no header of a request can hold, if `value` holds it."""
    if set(value) & set("\r\n"):
        return "a line feed"
    if any(character.isspace() for character in value):
        return "white space"
    return None if value.isascii() and value.isprintable() else "a character that is not printable ASCII"


def _wrong_endpoint(url: str) -> str | None:
    """What is wrong with an endpoint's URL, or None."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no URL: its host or its port cannot be read"
    if parts.scheme not in ("http", "https"):
        return "does not begin with http:// or https://"
    if "@" in parts.netloc:
        return "holds credentials: give them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if "?" in url or "#" in url:
        return "holds a query or a fragment (`?` or `#`)"
    if port == 0:
        return "names port 0"
    if not host:
        return "names no host"
    return None if ":" in host or _HOST.fullmatch(host) else "names a host that can be none (letters, digits, `-` and `.`)"


@functools.cache
def _file_system(local: bool, pid: int, environment: tuple[str | None, ...]) -> Any:
    """One file system per process and environment: s3fs must not cross a fork, and listings must be fresh."""
    if local:
        return fsspec.filesystem("file", auto_mkdir=True)
    _check_s3_environment(environment)
    reach_loopback_directly()
    client: dict[str, Any] = {"region_name": environment[4] or environment[5] or "us-east-1"}
    if endpoint := environment[0] or environment[1]:
        client["endpoint_url"] = endpoint
    config = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}
    return fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True, client_kwargs=client, config_kwargs=config)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _raise_unless_gone(error: Exception) -> None:
    """What to do about a folder that cannot be listed: one that is not there has no files."""
    if not isinstance(error, FileNotFoundError) or _refusal(error):
        raise error


def _is_precondition_failed(error: BaseException) -> bool:
    """Whether storage refused a create because the file exists (s3fs maps it to `OSError(EINVAL)`)."""
    return any("PreconditionFailed" in str(e) or "pre-conditions" in str(e) for e in _causes(error))


def _refusal(error: BaseException) -> str | None:
    """Why storage will refuse every further try, or None."""
    if isinstance(error, ValueError):  # botocore's and s3fs's, of an address or a name
        return " ".join(f"{type(error).__name__}: {error}".split())
    for cause in _causes(error):
        code = str(getattr(cause, "response", {}).get("Error", {}).get("Code", "")) if hasattr(cause, "response") else ""
        if code in FATAL_CODES:
            return code
        if isinstance(cause, PermissionError) or (isinstance(cause, OSError) and cause.errno == errno.EACCES):
            return "permission denied"
        if type(cause).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            return "no credentials found"
        if type(cause).__name__ in NEVER_SENT:
            return " ".join(f"{type(cause).__name__}: {cause}".split())
    return None
