"""Where operating systems differ: standard streams, watching a process, private files.

Everything else in the project is the same on Linux, macOS and Windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

PARENT_POLL_SECONDS = 3.0
MAX_PROCESS_ID = (1 << 31) - 1


def is_pipe(file: BinaryIO) -> bool:
    """Whether asyncio can wait for this descriptor: a pipe or socket of a POSIX system."""
    if sys.platform == "win32":
        return False
    mode = os.fstat(file.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def read_in_thread(file: BinaryIO, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
    """Read a descriptor that asyncio cannot wait for (a file, a console, Windows) in its own thread."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            while data := os.read(file.fileno(), 1 << 16):
                loop.call_soon_threadsafe(on_data, data)
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(on_end)

    threading.Thread(target=read, name="stdin", daemon=True).start()


class ThreadWriter:
    """A write transport over a descriptor that asyncio cannot wait for."""

    def __init__(self, file: BinaryIO, protocol: asyncio.BaseProtocol) -> None:
        self._file = file
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._high = 1 << 16
        self._kept = bytearray()
        self._changed = threading.Condition()
        self._closing = self._paused = False
        threading.Thread(target=self._write_on, name="stdout", daemon=True).start()

    def write(self, data: bytes) -> None:
        """As asyncio's write transports."""
        with self._changed:
            self._kept += data
            self._changed.notify()
        self._tell_pressure()

    def is_closing(self) -> bool:
        """As asyncio's write transports."""
        return self._closing

    def close(self) -> None:
        """As asyncio's write transports."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def abort(self) -> None:
        """As asyncio's write transports."""
        with self._changed:
            self._kept.clear()
        self.close()

    def set_write_buffer_limits(self, high: int) -> None:
        """As asyncio's write transports."""
        self._high = high
        self._tell_pressure()

    def _tell_pressure(self) -> None:
        kept = len(self._kept)
        if not self._paused and kept > self._high:
            self._paused = True
            self._protocol.pause_writing()
        elif self._paused and kept <= self._high // 4:
            self._paused = False
            self._protocol.resume_writing()

    def _write_on(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._kept or self._closing)
                    if not self._kept:
                        return
                    data = bytes(self._kept)
                view = memoryview(data)
                while view:
                    view = view[os.write(self._file.fileno(), view) :]
                with self._changed:
                    del self._kept[: len(data)]
                self._loop.call_soon_threadsafe(self._tell_pressure)
        except (OSError, ValueError, RuntimeError):
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._protocol.connection_lost, None)


@contextlib.contextmanager
def watching_process(process_id: int, on_end: Callable[[], None]) -> Iterator[None]:
    """Call `on_end` once when a process ends, for as long as the block runs; a number that no process can
    have is not watched.
    """
    if process_id > MAX_PROCESS_ID:
        yield
        return
    loop = asyncio.get_running_loop()
    if hasattr(os, "pidfd_open"):
        try:
            descriptor = os.pidfd_open(process_id)
        except ProcessLookupError:
            on_end()
            yield
            return
        except OSError:
            pass
        else:
            loop.add_reader(descriptor, on_end)
            try:
                yield
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
            return
    timer = [loop.call_soon(lambda: None)]

    def look() -> None:
        if _is_running(process_id):
            timer[0] = loop.call_later(PARENT_POLL_SECONDS, look)
        else:
            on_end()

    look()
    try:
        yield
    finally:
        timer[0].cancel()


def _is_running(process_id: int) -> bool:
    if sys.platform == "win32":
        import ctypes

        synchronize, timed_out = 0x00100000, 0x102
        handle = ctypes.windll.kernel32.OpenProcess(synchronize, False, process_id)
        if not handle:
            return False
        try:
            return bool(ctypes.windll.kernel32.WaitForSingleObject(handle, 0) == timed_out)
        finally:
            ctypes.windll.kernel32.CloseHandle(handle)
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_private_file(path: Path, text: str) -> None:
    """Create a file that its owner alone can read, in a folder that is the owner's alone.

    Raises:
        OSError: The folder belongs to somebody else, or the file cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = os.lstat(path.parent)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise PermissionError(f"{path.parent} is not a folder of yours")
        path.parent.chmod(0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def resident_bytes() -> int | None:
    """Resident memory of this process, where the system tells without a library."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
