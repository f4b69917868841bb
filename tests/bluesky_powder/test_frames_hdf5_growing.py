"""HDF5 files that grow, change, lack frames, or are damaged: frames, or reasons, but no garbage."""

import os
import subprocess
import sys
import textwrap
import threading

import h5py
import numpy as np
import pytest

from bluesky_powder.errors import FramesUnavailable
from bluesky_powder.frames import Patience
from bluesky_powder.frames.files.hdf5 import FrameUnwritten, Hdf5Files
from hdf5_stacks import (
    BSLZ4,
    DIRECT,
    SHAPE,
    age,
    by_h5py,
    frames_of,
    written,
)

pytestmark = pytest.mark.usefixtures("fresh_files_stay_fresh")


@pytest.fixture
def files():
    files = Hdf5Files(Patience(0.0))
    yield files
    files.close()
    assert files.bytes_ahead == 0


@pytest.mark.parametrize("name", ["lz4", "bitshuffle-lz4", "gzip"])
@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
def test_hdf5_half_written_chunk_is_told_and_waited_for(tmp_path, name, settled):
    """As with a writer whose file system brings the end of a chunk later than its beginning."""
    frames = frames_of((3, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **DIRECT[name])
    with h5py.File(path, "r") as file:
        raw = file["data"].id.read_direct_chunk((1, 0, 0))[1]
    with h5py.File(path, "r+") as file:
        file["data"].id.write_direct_chunk((1, 0, 0), raw[: len(raw) // 2])
    if settled:
        age(path)
    files = Hdf5Files(Patience(0.0))
    assert np.array_equal(files.read(path, "data", 0, 1)[0], frames[0])
    with pytest.raises(FramesUnavailable, match="frame 1 of /data is damaged"):
        files.read(path, "data", 1, 1)
    with pytest.raises(FramesUnavailable, match="frame 0 of /data is damaged"):
        files.read_stack(path, "data", 0, 3)
    files.close()
    patient = Hdf5Files(Patience(30.0))
    patient.read(path, "data", 0, 1)

    def complete():
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file.create_dataset("data", data=frames, chunks=(1, *SHAPE), **DIRECT[name])
        path.write_bytes((tmp_path / "b.h5").read_bytes())

    timer = threading.Timer(0.1, complete)
    timer.start()
    assert np.array_equal(patient.read(path, "data", 1, 1)[0], frames[1])
    timer.join()
    patient.close()


@pytest.mark.parametrize("name", ["nothing", "bitshuffle-lz4", "gzip"])
def test_hdf5_file_cut_short_gives_frames_or_reasons_but_no_garbage(tmp_path, name):
    """A writer that crashed, or a copy that is not complete."""
    frames = frames_of((4, *SHAPE), "u4") + np.uint32(1)
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        data = file.create_dataset(
            "data", (0, *SHAPE), "u4", chunks=(1, *SHAPE), maxshape=(None, *SHAPE), **DIRECT[name]
        )
        file.swmr_mode = True
        for n, frame in enumerate(frames):
            data.resize(n + 1, axis=0)
            data[n] = frame
            data.flush()
        raw = (tmp_path / "a.h5").read_bytes()
        last, before = (data.id.get_chunk_info(k).size for k in (3, 2))
    told = []
    for cut in (0, 1, 2, 3, 5, 20, 100, 1000, last, last + 1, last + before // 2):
        path = tmp_path / f"{cut}.h5"
        path.write_bytes(raw[: len(raw) - cut])
        files = Hdf5Files(Patience(0.0))
        for index in range(4):
            try:
                assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
            except FramesUnavailable:
                told.append((cut, index))
        files.close()
    cuts = [(cut, 3) for cut in (1, 2, 3, 5, 20, 100, 1000, last)]
    assert told == [*cuts, (last + 1, 2), (last + 1, 3), (last + before // 2, 2), (last + before // 2, 3)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("block", [b"EADB", b"EAIB", b"EAHD", b"OHDR"])
def test_hdf5_damaged_index_ends_in_a_reason_soon(files, tmp_path, block):
    """HDF5 itself would wait for a writer to put it right, in effect for ever, and let nothing else use HDF5."""
    frames = frames_of((40, *SHAPE), "u4")
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        data = file.create_dataset("data", (0, *SHAPE), "u4", chunks=(1, *SHAPE), maxshape=(None, *SHAPE), **BSLZ4)
        file.swmr_mode = True
        for n, frame in enumerate(frames):
            data.resize(n + 1, axis=0)
            data[n] = frame
            data.flush()
        raw = bytearray((tmp_path / "a.h5").read_bytes())
    raw[raw.rindex(block) + 20] ^= 0xFF
    (tmp_path / "b.h5").write_bytes(raw)
    with pytest.raises(FramesUnavailable, match=r"b\.h5.*(checksum|has no dataset)"):
        files.read(tmp_path / "b.h5", "data", 39, 1)


def test_hdf5_finished_file_that_is_too_short_is_refused(files, tmp_path):
    path = written(tmp_path / "a.h5", frames_of((4, *SHAPE), "u4"), chunks=(1, *SHAPE))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FramesUnavailable, match="is truncated"):
        files.read(age(path), "data", 0, 1)


@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
def test_hdf5_frames_never_written_are_told_in_any_file(files, tmp_path, settled):
    frames = frames_of((6, *SHAPE), "u4")
    for name, chunks in (("one", (1, *SHAPE)), ("parts", (1, 10, 52)), ("deep", (2, *SHAPE))):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset("data", (6, *SHAPE), "u4", chunks=chunks, **BSLZ4)
            data[:2] = frames[:2]
            data[4:] = frames[4:]
        if settled:
            age(path)
        for index in (0, 1, 4, 5):
            assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
        for index in (2, 3):
            with pytest.raises(FrameUnwritten, match=f"frame {index} of /data was announced but is not written"):
                files.read(path, "data", index, 1)
        with pytest.raises(FrameUnwritten, match="frame 2 of"):
            files.read_stack(path, "data", 0, 6)


def test_hdf5_missing_parts_of_a_frame_are_fill_only_where_nobody_writes_any_more(tmp_path):
    frame = frames_of((1, *SHAPE), "u4")
    for settled in (True, False):
        path = tmp_path / f"{settled}.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset("data", (1, *SHAPE), "u4", chunks=(1, 10, 52), fillvalue=7, **BSLZ4)
            data[0, :20] = frame[0, :20]
        files = Hdf5Files(Patience(0.0))
        if settled:
            assert np.array_equal(files.read(age(path), "data", 0, 1), by_h5py(path))
        else:
            with pytest.raises(FrameUnwritten):
                files.read(path, "data", 0, 1)
        files.close()


WRITER = """
    import sys, time
    import h5py, hdf5plugin
    import numpy as np

    path, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    shape = (40, 50)

    def frame(n):
        return (np.arange(2000, dtype="u4").reshape(shape) * (n + 1)) % 1009 + 1

    with h5py.File(path + ".all", "w") as file:
        whole = np.stack([frame(n) for n in range(count)])
        packed = file.create_dataset("data", data=whole, chunks=(1, *shape), **hdf5plugin.Bitshuffle())
        file.flush()
        chunks = [packed.id.read_direct_chunk((n, 0, 0))[1] for n in range(count)]
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset(
            "data", (0, *shape), "u4", maxshape=(None, *shape),
            chunks=(4 if kind == "deep" else 1, *shape), **hdf5plugin.Bitshuffle(),
        )
        file.swmr_mode = True
        for n in range(count):
            if kind == "announced":
                data.resize(min(count, n - n % 10 + 10), axis=0)
                data.flush()
                time.sleep(0.004)
            else:
                data.resize(n + 1, axis=0)
            if kind == "direct":
                data.id.write_direct_chunk((n, 0, 0), chunks[n])
            else:
                data[n] = frame(n)
            data.flush()
            print(n, flush=True)
            time.sleep(0.002)
"""


def writer(*arguments, text=WRITER):
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["filtered", "direct", "announced", "deep"])
def test_hdf5_file_that_another_process_is_writing_is_read_as_it_grows(tmp_path, kind):
    """By two readers at once, in step with the writer and as fast as possible."""
    path, count = tmp_path / "live.h5", 60
    truth = (np.arange(2000, dtype="u4").reshape(1, 40, 50) * np.arange(1, count + 1)[:, None, None]) % 1009 + 1
    both = [Hdf5Files(Patience(60.0)), Hdf5Files(Patience(60.0))]
    wrong = []

    def follow(process):
        for line in process.stdout:
            n = int(line)
            if not np.array_equal(both[0].read(path, "data", n, 1)[0], truth[n]):
                wrong.append(n)

    with writer(path, kind, count) as process:
        follower = threading.Thread(target=follow, args=(process,))
        follower.start()
        if kind != "deep":  # rows of a chunk that is there may be unwritten: only those that were told can be asked for
            for n in range(count):
                assert np.array_equal(both[1].read(path, "data", n, 1)[0], truth[n])
        follower.join()
    assert not wrong
    for files in both:
        assert np.array_equal(files.read_stack(path, "data", 0, count), truth)
        files.close()


def test_hdf5_dataset_open_twice_in_a_process_keeps_its_frames_apart(tmp_path):
    """HDF5 mixes up the chunks of a dataset that is refreshed while it is open twice."""
    frames = frames_of((6, *SHAPE), "u4")
    path = written(
        tmp_path / "a.h5", frames, settled=False, chunks=(1, *SHAPE), maxshape=(None, *SHAPE), **DIRECT["gzip"]
    )
    one, other = Hdf5Files(Patience(0.0)), Hdf5Files(Patience(0.0))
    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        mine = file["data"]
        for index in (0, 1, 2, 4, 3, 5):
            for files in (one, other, one):
                assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
            assert np.array_equal(mine[index], frames[index])
        with pytest.raises(
            FramesUnavailable, match="has 6 frames, number 6 is not there; it is open elsewhere in this"
        ):
            one.read(path, "data", 6, 1)
    one.close()
    assert np.array_equal(other.read(path, "data", 5, 1)[0], frames[5])
    other.close()


CHANGER = """
    import sys
    import h5py, hdf5plugin

    with h5py.File(sys.argv[1], "r+", libver="latest", locking=False) as file:
        file["data"][2] = file["data"][0]
"""


@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
def test_hdf5_frame_that_is_written_again_after_it_was_read_ahead_is_the_new_one(files, tmp_path, settled):
    frames = frames_of((6, *SHAPE), "u4")
    for name in ("nothing", "bitshuffle-lz4"):
        path = written(tmp_path / f"{name}.h5", frames, settled=settled, chunks=(1, *SHAPE), **DIRECT[name])
        for index in range(2):
            files.read(path, "data", index, 1)
        with writer(path, text=CHANGER):
            pass
        assert np.array_equal(files.read(path, "data", 2, 1)[0], frames[0])
        assert np.array_equal(files.read(path, "data", 3, 1)[0], frames[3])


@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
def test_hdf5_another_file_under_the_same_name_is_the_one_that_is_read(files, tmp_path, settled):
    frames = frames_of((8, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames[:4], settled=settled, chunks=(1, *SHAPE), **BSLZ4)
    for index in range(2):
        assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
    written(tmp_path / "b.h5", frames[4:], settled=settled, chunks=(1, *SHAPE), **BSLZ4)
    os.replace(tmp_path / "b.h5", path)
    for index in (2, 3, 0):
        assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index + 4])
    path.unlink()
    assert np.array_equal(files.read(path, "data", 1, 1)[0], frames[5])  # it is still open
    with pytest.raises(FramesUnavailable):
        files.read(path, "data", 4, 1)
    with pytest.raises(FramesUnavailable, match="there is no such file"):
        files.read(path, "data", 1, 1)


def test_hdf5_finished_file_that_is_overwritten_is_read_anew(files, tmp_path):
    frames = frames_of((8, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames[:4], chunks=(1, *SHAPE), **BSLZ4)
    for index in range(2):
        files.read(path, "data", index, 1)
    other = written(tmp_path / "b.h5", frames[4:], chunks=(1, *SHAPE))
    path.write_bytes(other.read_bytes())
    for index in (2, 3):
        assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index + 4])
