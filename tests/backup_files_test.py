"""Folders of backups: bits that come back, damage that is seen."""

import errno
import pathlib
import resource
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from keras_drmad.core.state import Setting, State
from keras_drmad.training import backup_files
from keras_drmad.training.backup_files import BackupFiles

TENSORS = [
    tf.constant([1.0, -0.0, float("nan"), 1e-45]),
    tf.constant([[0.1], [1 / 3]], tf.float64),
    tf.cast([0.1, 3e38], tf.bfloat16),
    tf.constant([[]], tf.float16),
    tf.constant(2**64 - 1, tf.uint64),
    tf.constant([True, False]),
    tf.constant(-7, tf.int64),
]


def bits(tensor):
    return tensor.dtype, tensor.shape, tensor.numpy().tobytes()


def written(tmp_path, tree):
    BackupFiles(tmp_path).save(tree)
    return BackupFiles(tmp_path).load()


def test_tensors_come_back_to_the_bit(tmp_path):
    found = written(tmp_path, {"tensors": TENSORS})
    assert list(map(bits, found["tensors"])) == list(map(bits, TENSORS))


def test_structures_come_back(tmp_path):
    state = State([tf.constant(1.0)], [], [tf.constant(2)])
    tree = {
        "state": state,
        "settings": {0: Setting([], [tf.constant(3.0)])},
        "pages": {"memory": {32: (state, [None, "x"]), 64: ()}},
        "numbers": [1, 0.1, float("inf"), np.float32(0.1), True, "a\u00e9"],
        "array": np.arange(6, dtype="uint16").reshape(2, 3),
    }
    found = written(tmp_path, tree)
    assert isinstance(found["state"], State)
    assert isinstance(found["settings"][0], Setting)
    assert found["settings"].keys() == {0}
    tf.nest.map_structure(
        np.testing.assert_array_equal, found["state"], tree["state"]
    )
    kept = found["pages"]["memory"]
    assert kept[64] == ()
    assert kept[32][1] == [None, "x"]
    assert isinstance(kept[32][0], State)
    assert found["numbers"] == tree["numbers"]
    assert isinstance(found["numbers"][3], np.float32)
    assert found["array"].dtype == "uint16"
    np.testing.assert_array_equal(found["array"], tree["array"])


class Foreign(NamedTuple):
    x: int


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: 0])
def test_what_has_no_place_is_refused(value, tmp_path):
    with pytest.raises(TypeError, match="no place"):
        BackupFiles(tmp_path).save({"x": value})
    assert BackupFiles(tmp_path).load() is None


def test_records_of_others_are_not_imported(tmp_path):
    BackupFiles(tmp_path).save({"x": Foreign(1)})
    with pytest.warns(RuntimeWarning) as warned:
        assert BackupFiles(tmp_path).load() is None
    assert "unknown record" in str(warned[0].message)


# ---- what is written, and what stays


def random(size=1000):
    return tf.constant(np.random.default_rng(0).normal(size=size))


def test_pages_are_written_once_and_other_leaves_twice(tmp_path):
    files = BackupFiles(tmp_path)
    page, base, small = random(10_000), random(), 500
    sizes = [
        files.save(
            {"base": base, "t": {"memory": {0: page}, "state": random()}}
        )
        for _ in range(4)
    ]
    page_size, base_size = 80_000, 8_000
    expected = [page_size + 2 * base_size, 2 * base_size, base_size, base_size]
    for size, least in zip(sizes, expected, strict=True):
        assert least < size < least + 2 * small
    found = BackupFiles(tmp_path).load()
    assert bits(found["t"]["memory"][0]) == bits(page)
    assert bits(found["base"]) == bits(base)


def test_another_process_writes_no_page_again(tmp_path):
    tree = {"t": {"memory": {0: random(10_000)}, "state": random()}}
    BackupFiles(tmp_path).save(tree)
    files = BackupFiles(tmp_path)
    found = files.load()
    for _ in range(3):
        found["t"]["state"] = random()
        assert files.save(found) < 9_000
    found = BackupFiles(tmp_path).load()
    assert bits(found["t"]["memory"][0]) == bits(random(10_000))


def test_files_that_no_backup_needs_are_deleted(tmp_path):
    files = BackupFiles(tmp_path)
    pages = {}
    for k in range(6):
        pages[k] = random()
        files.save({"t": {"memory": pages, "state": random()}})
    assert len(list(tmp_path.iterdir())) == 6  # a page in each
    pages.clear()
    for _ in range(2):
        files.save({"t": {"memory": pages, "state": random()}})
    assert len(list(tmp_path.iterdir())) == 2
    files.delete()
    assert not tmp_path.exists()


def test_files_of_others_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    files = BackupFiles(tmp_path)
    files.save({"x": 1})
    files.delete()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# ---- damage


def two_backups(tmp_path):
    files = BackupFiles(tmp_path)
    base, page = random(), random()
    for k in range(2):
        pages = {"memory": {0: page}, "state": random()}
        files.save({"k": k, "base": base, "trainings": {"draw 0": pages}})
    return sorted(tmp_path.iterdir())


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)


DAMAGES = {
    "cut in half": lambda path: path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 2]
    ),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "no file": lambda path: path.unlink(),
    "first bit": lambda path: flip(path, 0),
    "a bit of a number": lambda path: flip(path, 5000),
    "a bit of the header": lambda path: flip(path, -100),
    "a bit of the footer": lambda path: flip(path, -20),
    "last bit": lambda path: flip(path, -1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_falls_back_to_the_one_before(damage, tmp_path):
    before, last = two_backups(tmp_path)
    DAMAGES[damage](last)
    if damage == "no file":
        assert BackupFiles(tmp_path).load()["k"] == 0
        return
    with pytest.warns(RuntimeWarning, match="damaged.*one before") as warned:
        found = BackupFiles(tmp_path).load()
    assert found["k"] == 0
    assert found["trainings"]
    assert last.name in str(warned[0].message)
    # The backup that follows takes nobody's place but the damaged one's.
    files = BackupFiles(tmp_path)
    files.save(found | {"k": 2})
    assert BackupFiles(tmp_path).load()["k"] == 2


def test_a_damaged_page_costs_the_training_it_belongs_to(tmp_path):
    before, last = two_backups(tmp_path)
    data = before.read_bytes()
    page = random().numpy().tobytes()
    # The base, then the page that both backups share.
    flip(before, data.index(page, data.index(page) + 1) + 8)
    with pytest.warns(RuntimeWarning) as warned:
        found = BackupFiles(tmp_path).load()
    assert found["k"] == 1
    assert found["trainings"] == {}
    assert bits(found["base"]) == bits(random())
    assert "begins anew" in str(warned[-1].message)


def test_where_all_is_damaged_nothing_is_found_and_it_is_said(tmp_path):
    for path in two_backups(tmp_path):
        DAMAGES["cut in half"](path)
    with pytest.warns(RuntimeWarning) as warned:
        assert BackupFiles(tmp_path).load() is None
    assert "Training begins anew" in str(warned[-1].message)


def test_a_file_that_was_not_completed_is_no_backup(tmp_path):
    _, last = two_backups(tmp_path)
    half = tmp_path / f"backup-00000003{backup_files.HALF}"
    half.write_bytes(last.read_bytes()[:-50])
    assert BackupFiles(tmp_path).load()["k"] == 1
    BackupFiles(tmp_path).save({"k": 3})
    assert not half.exists()


# ---- no space


def test_no_space_is_said_and_the_last_backup_kept(tmp_path, monkeypatch):
    files = BackupFiles(tmp_path)
    files.save({"k": 1})

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backup_files.os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as error:
            files.save({"k": 2, "x": random()})
    assert error.value.errno == errno.ENOSPC
    message = str(error.value)
    for said in (str(tmp_path), "8,", "bytes", "backup-00000001", "Make room"):
        assert said in message
    assert [path.name for path in tmp_path.iterdir()] == ["backup-00000001"]
    assert BackupFiles(tmp_path).load()["k"] == 1
    files.save({"k": 2})  # there is room again
    assert BackupFiles(tmp_path).load()["k"] == 2


def test_a_limit_of_the_system_is_said(tmp_path):
    files = BackupFiles(tmp_path)
    files.save({"k": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="last good backup is kept"):
            files.save({"k": 2, "x": random(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert BackupFiles(tmp_path).load()["k"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_can_not_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="There is no backup yet"):
        BackupFiles(pathlib.Path(tmp_path, "file", "backups")).save({"k": 1})
