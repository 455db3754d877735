"""Batches of streams: what the way there saw, the way back sees again."""

import gc
import time
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_drmad.core.nested import leaves
from keras_drmad.core.span import CHUNK_SIZE, Span
from keras_drmad.core.state import Batch
from keras_drmad.keras_internals import tensor_in_place
from keras_drmad.training import kept_batches, stacks
from keras_drmad.training import passes as passes_over
from keras_drmad.training.streams import StreamBatches
from small_models import assert_same_batches, visited

NOTHING = np.zeros(0, int)


def stream_batches(dataset):
    dataset = dataset.map(lambda x: (x, x**2))
    return StreamBatches(passes_over.dataset_passes(dataset), seed=0)


def reshuffled(size=10, batch_size=3):
    return tf.data.Dataset.range(size).shuffle(size).batch(batch_size)


def test_the_way_back_sees_the_stream_of_the_way_there():
    source = stream_batches(reshuffled())
    revisited = np.array([0, 1, 3, 6, 7, 11])  # 3, 7 and 11 are short
    there = visited(source.forward(Span(0, 12), (4, 8), revisited))
    walk = list(source.backward(Span(0, 12), (4, 8), revisited))
    assert [t for ts, _ in walk[::-1] for t in ts] == revisited.tolist()
    assert_same_batches(visited(walk), {t: there[t] for t in revisited})
    # It was no other way to see them: the stream shuffles anew each time.
    once_more = visited(source.forward(Span(0, 12), (4, 8), NOTHING))
    assert any(
        np.any(there[t][0] != once_more[t][0]) for t in range(12) if t % 4 < 3
    )


def test_a_stream_is_read_again_where_it_ends():
    seen = visited(
        stream_batches(reshuffled()).forward(Span(0, 9), (), NOTHING)
    )
    for k in (0, 4):
        one = np.concatenate([seen[t][0] for t in range(k, k + 4)])
        np.testing.assert_array_equal(np.sort(one), range(10))
    assert len(seen) == 9


def test_chunks_of_one_batch_shape_have_one_shape(monkeypatch):
    # A new shape of chunk would mean a new trace of the compiled loop.
    monkeypatch.setattr(stacks, "SHORT", (4,))
    monkeypatch.setattr(stacks, "CHUNK_SIZE", 4)
    source = stream_batches(tf.data.Dataset.range(20).batch(3))
    walk = list(source.forward(Span(0, 14), (), NOTHING))
    assert [iterations.tolist() for iterations, _ in walk] == [
        [0, 1, 2, 3],
        [4, 5],
        [6],  # the short one
        [7, 8, 9, 10],
        [11, 12],
        [13],
    ]
    assert {tuple(chunk.data[0].shape) for _, chunk in walk} == {(4, 3), (4, 2)}


def test_a_chunk_has_room_for_its_longest_strings(monkeypatch):
    monkeypatch.setattr(stacks, "CHUNK_BYTES", 1000)
    texts = [np.array([b"a" * n] * 2) for n in (1, 2, 1, 100, 3, 1, 100, 1)]

    def passes(seed, number):
        return (Batch(text, text == b"a", None, None) for text in texts)

    source, every = StreamBatches(passes, seed=0), np.arange(8)
    walk = list(source.forward(Span(0, 8), (), every))
    assert max(chunk.data.x.shape[0] for _, chunk in walk[1:]) <= 5
    there = visited(walk)
    for t, text in enumerate(texts):
        np.testing.assert_array_equal(there[t][0], text)
    back = visited(source.backward(Span(0, 8), (), every))
    assert_same_batches(back, there)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_nothing_writes_into_the_memory_that_a_chunk_lies_in(jit_compile):
    emitted = []
    stack = stacks.Stack(lambda *one: emitted.append(one), 3)
    for t in range(3):
        stack.push(t, Batch(np.full((40, 5), 1.0 + t, "float32")))
    ((_, stacked),) = emitted
    before = stacked.x.copy()
    add = tf.function(lambda x: x + 1.0, jit_compile=jit_compile)
    # Of a tensor that nobody holds an operation may take the memory.
    found = add(tensor_in_place(stacked.x))
    eager = tf.square(tensor_in_place(stacked.x))
    np.testing.assert_array_equal(stacked.x, before)
    np.testing.assert_array_equal(found, before + 1)
    np.testing.assert_array_equal(eager, before**2)
    tensor = tensor_in_place(stacked.x)
    stacked.x[0] = 7
    assert np.all(tensor[0].numpy() == 7)  # it lies there, and is no copy


@pytest.mark.parametrize(
    "array",
    [
        np.array([["a", "bcd"]], object),
        np.array([b"a", b"bcd"]),
        np.array([True, False]),
        np.zeros((2, 0, 3), "float16"),
        np.arange(3, dtype="uint8"),
        np.ones(2, tf.bfloat16.as_numpy_dtype),
    ],
)
def test_chunks_of_any_dtype(array):
    emitted = []
    stack = stacks.Stack(lambda *one: emitted.append(one), 2)
    for t in range(2):
        stack.push(t, Batch(array))
    ((_, stacked),) = emitted
    tensor = tensor_in_place(stacked.x)
    expected = tf.constant(np.stack([array, array]))
    assert tensor.dtype == expected.dtype
    np.testing.assert_array_equal(tensor.numpy(), expected.numpy())


def test_chunks_begin_at_cuts():
    source = stream_batches(tf.data.Dataset.range(20).batch(2))
    walk = list(
        source.forward(Span(0, 10), (3, 7), np.array([2, 3, 9]), (3, 7))
    )
    assert [int(ts[0]) for ts, _ in walk] == [0, 3, 7]
    walk = list(source.backward(Span(0, 10), (3, 7), np.array([2, 3, 9])))
    assert [ts.tolist() for ts, _ in walk] == [[9], [3], [2]]


def test_a_generator_may_fill_the_same_arrays_again():
    # TensorFlow does not copy what begins at a multiple of 64 bytes; but it may
    # read ahead by itself.
    one_by_one = tf.data.Options()
    one_by_one.autotune.enabled = False
    one_by_one.experimental_optimization.inject_prefetch = False
    memory = np.empty(64 + 8 * 3, "uint8")
    begin = -memory.ctypes.data % 64
    array = memory[begin : begin + 8 * 3].view("int64")

    def filled():
        for k in range(4):
            array[:] = k
            yield array

    signature = tf.TensorSpec((3,), "int64")
    dataset = tf.data.Dataset.from_generator(filled, output_signature=signature)
    source = stream_batches(dataset.with_options(one_by_one))
    seen = visited(source.forward(Span(0, 8), (), NOTHING))
    for t in range(8):
        np.testing.assert_array_equal(seen[t][0], np.full(3, t % 4))


def test_an_empty_stream_is_an_error():
    source = stream_batches(reshuffled().take(0))
    with pytest.raises(ValueError, match="`x`.*at least one batch.*nothing"):
        source.first()


def test_first_is_the_first_batch():
    source = stream_batches(tf.data.Dataset.range(7).batch(3))
    np.testing.assert_array_equal(source.first()[0], [0, 1, 2])


@pytest.mark.parametrize("longest, length", [(50, 50), (90, 100), (121, 200)])
@pytest.mark.parametrize("every", [1, 2])
def test_chunks_of_short_walks_are_short(longest, length, every):
    # What lacks of a chunk is filled up, and copied with it.
    source = stream_batches(tf.data.Dataset.range(1000).batch(2))
    for span in (Span(0, longest), Span(longest, 2 * longest + 20)):
        cuts, revisited = (span.first + 20,), np.arange(*span, every)
        there = list(source.forward(span, cuts, revisited, goes_on=True))
        assert {len(leaves(chunk)[0]) for _, chunk in there} == {length}
        back = list(source.backward(span, cuts, revisited))
        own = stacks.length(len(revisited)) if every > 1 else length
        assert {len(leaves(chunk)[0]) for _, chunk in back} == {own}
        known = visited(there)
        assert_same_batches(visited(back), {t: known[t] for t in revisited})


@pytest.mark.parametrize("in_memory, files", [(0, 8), (4000, 2), (10**6, 0)])
def test_what_does_not_fit_into_memory_is_in_files_until_the_end(
    monkeypatch, tmp_path, in_memory, files
):
    monkeypatch.setattr(kept_batches.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(kept_batches, "IN_MEMORY", in_memory)
    source, every = stream_batches(reshuffled()), np.arange(8)
    for _ in range(2):
        there = visited(source.forward(Span(0, 8), (), every))
        # Chunks of full and of short batches, twice, which with x and y and
        # all that fills them up take 2400 and 800 bytes.
        assert len(list(tmp_path.rglob("*.npy"))) == files
    back = visited(source.backward(Span(0, 8), (), every))
    assert_same_batches(back, there)
    assert not list(tmp_path.iterdir())


def test_files_of_a_walk_that_was_broken_off_are_deleted(monkeypatch, tmp_path):
    monkeypatch.setattr(kept_batches.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(kept_batches, "IN_MEMORY", 0)
    source = stream_batches(reshuffled())
    walk = source.forward(Span(0, 8), (), np.arange(8))
    next(walk)
    next(walk)
    assert list(tmp_path.iterdir())
    del walk, source
    gc.collect()
    assert not list(tmp_path.iterdir())


def generated(count, kilobytes, asked=None):
    """Returns a `tf.data` pipeline over a Python generator."""

    def batch(k):
        if asked is not None:
            asked.append(k)
        return np.full((1, 256 * kilobytes), k, np.float32)

    return tf.data.Dataset.from_generator(
        lambda: (batch(k) for k in range(count)),
        output_signature=tf.TensorSpec((1, None), tf.float32),
    )


def test_a_long_stream_is_taken_chunk_by_chunk(monkeypatch):
    monkeypatch.setattr(stacks, "CHUNK_BYTES", 10 * 8 * 2**10)
    asked = []
    walk = stream_batches(generated(50, 4, asked)).forward(
        Span(0, 50), (), NOTHING
    )
    iterations, _ = next(walk)  # x and y: 8 KB a batch, 10 in a chunk
    assert iterations.tolist() == list(range(10))
    assert len(asked) <= 22  # one more chunk is on its way
    next(walk)
    assert len(asked) <= 32


def within(seconds, condition):
    """Returns whether a condition comes true in this time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_the_next_chunk_is_read_meanwhile_and_no_other(monkeypatch):
    monkeypatch.setattr(stacks, "CHUNK_BYTES", 10 * 8 * 2**10)
    dataset = Large()
    source = StreamBatches(
        passes_over.py_dataset_passes(dataset, shuffle=False), seed=0
    )
    walk = source.forward(Span(0, 60), (40,), NOTHING, waits=(40,))
    for begin in (0, 10, 20):
        iterations, _ = next(walk)
        assert iterations[0] == begin
        seen = source.seen
        assert within(5, lambda begin=begin: len(dataset.asked) == begin + 20)
        time.sleep(0.05)
        assert len(dataset.asked) == begin + 20
        assert source.seen == seen  # of what was yielded, not of what is read
    # What comes after 40 may be other data by then.
    assert next(walk)[0][0] == 30
    time.sleep(0.1)
    assert len(dataset.asked) == 40
    assert next(walk)[0][0] == 40


def test_a_walk_that_is_broken_off_has_begun_as_many_passes_each_time():
    begun = []
    for _ in range(5):
        source = stream_batches(reshuffled())
        walk = source.forward(Span(0, 20), (), NOTHING)
        next(walk)  # three batches, and on the way the short one
        walk.close()
        begun.append(source.counted.begun)
        again = visited(source.forward(Span(0, 8), (), NOTHING))
        assert len(again) == 8
    assert len(set(begun)) == 1


def test_an_error_of_a_stream_is_heard_when_its_chunk_is_wanted(monkeypatch):
    monkeypatch.setattr(stacks, "CHUNK_BYTES", 10 * 8 * 2**10)

    class Broken(Large):
        def __getitem__(self, k):
            if k == 15:
                raise OSError("the file of batch 15 is gone")
            return super().__getitem__(k)

    source = StreamBatches(
        passes_over.py_dataset_passes(Broken(), shuffle=False), seed=0
    )
    walk = source.forward(Span(0, 60), (), NOTHING)
    assert next(walk)[0].tolist() == list(range(10))
    with pytest.raises(OSError, match="batch 15"):
        next(walk)


# ---- one chunk


@pytest.mark.parametrize(
    "size, batch_size, span, expected",
    [
        (20, 4, Span(0, 12), True),
        (20, 3, Span(0, 6), True),
        (20, 3, Span(0, 7), False),  # the last one has two examples
        (20, 3, Span(6, 7), True),
        (20, 3, Span(7, 13), True),
        (20, 4, Span(0, CHUNK_SIZE), True),
        (20, 4, Span(0, CHUNK_SIZE + 1), False),
    ],
)
def test_a_span_is_one_chunk_or_not(size, batch_size, span, expected):
    source = stream_batches(tf.data.Dataset.range(size).batch(batch_size))
    assert source.is_one_chunk(span) == expected
    # To look ahead takes nothing away.
    walk = list(source.forward(span, (), NOTHING))
    assert (len(walk) == 1) == expected
    plain = stream_batches(tf.data.Dataset.range(size).batch(batch_size))
    assert_same_batches(
        visited(walk), visited(plain.forward(span, (), NOTHING))
    )


def test_a_span_of_large_batches_is_several_chunks(monkeypatch):
    source = stream_batches(tf.data.Dataset.range(20).batch(4))
    monkeypatch.setattr(stacks, "CHUNK_BYTES", 3 * 64)
    assert source.is_one_chunk(Span(0, 3))
    assert not source.is_one_chunk(Span(0, 4))
    assert len(list(source.forward(Span(0, 4)))) == 2


def test_a_stream_larger_than_memory_needs_little(monkeypatch):
    megabyte = 2**20
    monkeypatch.setattr(stacks, "CHUNK_BYTES", megabyte)
    monkeypatch.setattr(kept_batches, "IN_MEMORY", megabyte)
    source = stream_batches(generated(512, 64))  # x and y: 64 MB
    tracemalloc.start()
    try:
        total = 0
        for iterations, _ in source.forward(
            Span(0, 512), (), np.arange(0, 512, 4)
        ):
            total += len(iterations)
        forward = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        for iterations, _ in source.backward(
            Span(0, 512), (), np.arange(0, 512, 4)
        ):
            total += len(iterations)
        backward = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 512 + 128
    # Gathered and stacked, for the loop and for the files.
    assert forward < 6 * megabyte
    assert backward < 6 * megabyte


# ---- PyDataset


class Large(keras.utils.PyDataset):
    """Batches of 4 KB, and targets of 4 KB; notes which were asked for."""

    def __init__(self):
        super().__init__(max_queue_size=1)
        self.asked = []

    def __len__(self):
        return 1000

    def __getitem__(self, k):
        self.asked.append(k)
        return np.full((1, 1024), k, np.float32), np.zeros((1, 1024), "f4")


class Numbers(keras.utils.PyDataset):
    """Seven batches; notes which were asked for."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked, self.epochs = [], 0

    def __len__(self):
        return 7

    def __getitem__(self, k):
        self.asked.append(k)
        return np.full(3, k), np.full(3, k**2)

    def on_epoch_end(self):
        self.epochs += 1


def order(dataset, shuffle=False, seed=0, number=0):
    """Returns the order of the batches in a pass."""
    passes = passes_over.py_dataset_passes(dataset, shuffle)
    return [int(x[0]) for x, *_ in passes(seed, number)]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("queue", [1, 3, 20])
def test_a_pydataset_comes_in_order_whatever_its_workers(workers, queue):
    dataset = Numbers(workers=workers, max_queue_size=queue)
    assert order(dataset) == list(range(7))
    assert sorted(dataset.asked) == list(range(7))
    assert dataset.epochs == 1


def test_a_pydataset_is_shuffled_by_seed_and_pass():
    some = order(Numbers(), shuffle=True, seed=5, number=0)
    assert sorted(some) == list(range(7))
    assert some == order(Numbers(workers=4), shuffle=True, seed=5, number=0)
    assert some != order(Numbers(), shuffle=True, seed=5, number=1)
    assert some != order(Numbers(), shuffle=True, seed=6, number=0)


def test_another_seed_is_another_order_of_a_pydataset():
    passes = passes_over.py_dataset_passes(Numbers(), shuffle=True)
    source = StreamBatches(passes, seed=0)
    some, same, others = (
        visited(source.with_seed(seed).forward(Span(0, 7), (), NOTHING))
        for seed in (0, 0, 1)
    )
    assert_same_batches(some, same)
    assert any(np.any(some[t][0] != others[t][0]) for t in range(7))


def test_a_pydataset_without_end_is_read_as_far_as_needed():
    class Endless(Numbers):
        num_batches = None

    dataset = Endless(max_queue_size=2)
    source = StreamBatches(passes_over.py_dataset_passes(dataset, True), seed=0)
    seen = visited(source.forward(Span(0, 9), (), NOTHING))
    assert [int(x[0]) for x, _ in seen.values()] == list(range(9))
    assert max(dataset.asked) <= 11


def test_an_error_in_a_pydataset_is_heard():
    class Broken(Numbers):
        def __getitem__(self, k):
            if k == 4:
                raise OSError("the file of batch 4 is gone")
            return super().__getitem__(k)

    with pytest.raises(OSError, match="batch 4"):
        order(Broken(workers=3))
