"""A folder of backups, of which one is good whenever the process is killed."""

import contextlib
import json
import os
import pathlib
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from keras_drmad.training.records import Damaged, decoded, encoded

PREFIX = "backup-"
HALF = ".half"  # the end of the name of a file that is being written
KEPT = 2  # backups, each of them complete
MAGIC = b"keras_drmad1"
FOOTER = struct.Struct("<12sQQI")  # magic, header's first byte, size, CRC-32
ONCE = "memory"  # what stands below, both backups share


class BackupFiles:
    """Writes trees into a folder, and reads the last one that is whole.

    A tree is made of dicts; its other values are the leaves, see `records`. A
    backup is one file, written under another name, put on the disk and renamed
    at last, so that there is no half backup under a backup's name. All numbers
    have checksums, and the two last backups stay. A leaf that is the same
    object as in the last backup but one is not written again: the backup refers
    to its file. So each of the two last ones can be read without the other, but
    for what is below `"memory"`, the pages of states: these are in one file
    each.
    """

    def __init__(self, folder: str | os.PathLike):
        """Initializes the backups; the folder is made by the first one.

        Args:
            folder: the path of a folder that nothing else uses.
        """
        self.folder = pathlib.Path(folder)
        self._number = max(self._numbers(), default=0)
        # The last object under each path, and its code, by who may refer to it.
        self._written: dict[tuple, tuple[Any, dict]] = {}
        self._last: dict | None = None  # the code of the last backup

    # ---- writing

    def save(self, tree: dict) -> int:
        """Writes a backup, and deletes those before the last two.

        Args:
            tree: nested dicts with leaves as `records.encoded` takes them.

        Returns:
            The bytes that were written.

        Raises:
            OSError: if the file system can't take it, no space is left for
                instance. The backups before stay as they are.
        """
        number = self._number + 1
        half = self.folder / f"{PREFIX}{number:08d}{HALF}"
        written: dict[tuple, tuple[Any, dict]] = {}
        size = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(half, "wb") as file:

                def write(data):
                    nonlocal size
                    begin, size = size, size + len(data)
                    file.write(data)
                    return begin

                code = self._encoded(tree, (), number, written, write)
                header = json.dumps(code).encode()
                begin = write(header)
                checksum = zlib.crc32(header)
                write(FOOTER.pack(MAGIC, begin, len(header), checksum))
                file.flush()
                os.fsync(file.fileno())
            os.replace(half, self._path(number))
            _sync(self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)
            raise self._in_words(error, size) from error
        self._number = number
        self._written |= written
        self._delete_old(code)
        return size

    def _encoded(
        self,
        tree: Any,
        path: tuple,
        number: int,
        written: dict,
        write: Callable,
    ) -> dict:
        if isinstance(tree, dict):
            return {
                "branches": [
                    [
                        key,
                        self._encoded(
                            value, (*path, key), number, written, write
                        ),
                    ]
                    for key, value in tree.items()
                ]
            }
        key = _key(path, number)
        found, code = self._written.get(key, (None, {}))
        if found is not tree or not code:
            code = {"file": number, "leaf": encoded(tree, write)}
        written[key] = tree, code
        return code

    def _delete_old(self, code: dict) -> None:
        """Deletes the files that the last backups do not need."""
        before = self._number - 1
        needed = {self._number, before, *_files_of(code)}
        with contextlib.suppress(OSError, Damaged):  # there may be none
            last = self._header(before) if self._last is None else self._last
            needed |= _files_of(last)
        self._last = code
        paths = set(self._written) - set(_paths_of(code))
        for path in paths:  # what is no part of the tree any more
            del self._written[path]
        for number in set(self._numbers()) - needed:
            self._path(number).unlink(missing_ok=True)
        self._delete_halves()

    def _in_words(self, error: OSError, size: int) -> OSError:
        last = max(self._numbers(), default=None)
        left = "There is no backup yet."
        if last is not None:
            left = f"The last good backup is kept, {self._path(last)}."
        return OSError(
            error.errno,
            f"{error.strerror}: a backup of at least {size:,} bytes could not "
            f"be written into the folder '{self.folder}'. {left} Make room, or "
            "copy the folder to where there is room and pass that one as "
            "`backup_dir`, and call `fit` with the same arguments to go on",
        )

    # ---- reading

    def load(self) -> dict | None:
        """Returns the tree of the last backup that is whole.

        Where none is whole, the last one without the dict `"trainings"`, in
        which trainings are that are not complete. Warns of what is damaged.

        Returns:
            The tree, or `None` where there is no backup.
        """
        numbers = sorted(self._numbers(), reverse=True)
        for left_out in ((), ("trainings",)):
            for number in numbers:
                self._written = {}
                try:
                    code = self._header(number)
                    tree = self._decoded(code, (), number, left_out)
                except (OSError, Damaged) as error:
                    if not left_out:
                        _warn_damaged(self._path(number), error)
                    continue
                if left_out:
                    _warn(
                        "Going on from the end of the last training that was "
                        "complete; the one after it begins anew."
                    )
                self._last = code
                return tree
        self._written = {}
        if numbers:
            _warn(
                f"No backup in '{self.folder}' is whole. Training begins anew."
            )
        return None

    def _header(self, number: int) -> dict:
        """Returns the code of a backup's tree.

        Raises:
            Damaged: if the file is not whole.
        """
        with open(self._path(number), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < FOOTER.size:
                raise Damaged("it is cut off")
            file.seek(size - FOOTER.size)
            magic, begin, length, checksum = FOOTER.unpack(file.read())
            if magic != MAGIC or begin + length + FOOTER.size != size:
                raise Damaged("it is cut off, or no backup")
            file.seek(begin)
            header = file.read(length)
        if zlib.crc32(header) != checksum:
            raise Damaged("other bytes than were written")
        return json.loads(header)

    def _decoded(
        self, code: dict, path: tuple, number: int, left_out: tuple
    ) -> Any:
        """Returns a tree; what was read need not be written again."""
        if "branches" in code:
            return {
                key: {}
                if key in left_out
                else self._decoded(value, (*path, key), number, ())
                for key, value in code["branches"]
            }
        with open(self._path(code["file"]), "rb") as file:

            def read(begin, size):
                file.seek(begin)
                return file.read(size)

            leaf = decoded(code["leaf"], read)
        self._written[_key(path, number)] = leaf, code
        return leaf

    # ---- files

    def delete(self) -> None:
        """Deletes all backups, and the folder if nothing else is in it."""
        for number in self._numbers():
            self._path(number).unlink(missing_ok=True)
        self._delete_halves()
        self._written = {}
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _delete_halves(self) -> None:
        for path in self.folder.glob(f"{PREFIX}*{HALF}"):
            path.unlink(missing_ok=True)

    def _path(self, number: int) -> pathlib.Path:
        return self.folder / f"{PREFIX}{number:08d}"

    def _numbers(self) -> list[int]:
        names = [path.name for path in self.folder.glob(f"{PREFIX}*")]
        ends = [name.removeprefix(PREFIX) for name in names]
        return [int(end) for end in ends if end.isdigit()]


def _key(path: tuple, number: int) -> tuple:
    """Returns under what a backup looks for a leaf that is written already."""
    return *path, 0 if ONCE in path else number % KEPT


def _leaves_of(code: dict, path: tuple = ()) -> Iterator[tuple[tuple, dict]]:
    """Yields the path of each leaf, and its code."""
    if "branches" not in code:
        yield path, code
        return
    for key, value in code["branches"]:
        yield from _leaves_of(value, (*path, key))


def _files_of(code: dict) -> set[int]:
    return {leaf["file"] for _, leaf in _leaves_of(code)}


def _paths_of(code: dict) -> Iterator[tuple]:
    for path, _ in _leaves_of(code):
        yield from ((*path, turn) for turn in range(KEPT))


def _sync(folder: pathlib.Path) -> None:
    """Puts the names in a folder on the disk, where the system can."""
    with contextlib.suppress(OSError):
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def _warn_damaged(path: pathlib.Path, error: Exception) -> None:
    why = error.strerror if isinstance(error, OSError) else error
    _warn(f"The backup {path} is damaged: {why}. Looking at the one before.")


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
