"""Python imports this module first in every process that an acceptance starts with this folder on PYTHONPATH. See `chaos_power.py`.

With CARAVAN_FLUSH_JOURNAL it notes what each `os.fsync` made durable; with CARAVAN_SABOTAGE it breaks one thing on purpose.
"""

import contextlib
import importlib.abc
import importlib.util
import json
import os
import stat
import sys

JOURNAL = os.environ.get("CARAVAN_FLUSH_JOURNAL")
SABOTAGE = os.environ.get("CARAVAN_SABOTAGE", "")


def _note(handle: int) -> None:
    """Write down what a flush of this descriptor keeps: of a file its size and time, of a folder its names."""
    assert JOURNAL
    found = os.fstat(handle)
    if stat.S_ISDIR(found.st_mode):
        path = os.readlink(f"/proc/self/fd/{handle}")
        names = {}
        for entry in os.scandir(path):
            names[entry.name] = entry.inode()
            if entry.is_file(follow_symlinks=False):  # so that what is replaced later can come back
                with contextlib.suppress(OSError):  # it is kept already, or gone
                    os.link(entry.path, os.path.join(JOURNAL, "kept", str(entry.inode())))
        line: dict[str, object] = {"folder": path, "names": names}
    else:
        line = {"file": found.st_ino, "size": found.st_size, "mtime_ns": found.st_mtime_ns}
    handle = os.open(os.path.join(JOURNAL, "journal"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, json.dumps(line).encode() + b"\n")
    os.close(handle)


if JOURNAL:
    _fsync = os.fsync

    def fsync(fd):  # type: ignore[no-untyped-def]
        """`os.fsync`, noted."""
        _fsync(fd)
        _note(fd if isinstance(fd, int) else fd.fileno())

    os.fsync = fsync


class _Patching(importlib.abc.MetaPathFinder):
    """Lets `storage.lease` be imported, and takes its last look away."""

    def find_spec(self, name, path, target=None):  # type: ignore[no-untyped-def]
        """The module's usual spec, with a loader that patches behind it."""
        if name != "storage.lease":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module):  # type: ignore[no-untyped-def]
            execute(module)
            module.Lease.still_holds = lambda self: True

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if SABOTAGE == "no last look":
    sys.meta_path.insert(0, _Patching())
