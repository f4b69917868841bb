"""Positions and monitors of frames, wherever they stand, and in whatever order the documents come."""

import math
import threading
import time

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bluesky_powder.frames import Frame, Patience, RunFrames, Skipped, Wanted
from bluesky_powder.recipe.sources import KeySource
from number_runs import FRAMES, Lanes, datum, descriptor, event, number_key, resource, write_columns
from raw_runs import reference_run, write_hdf5

ANGLES = [1.0, 2.5, -3.0, 0.0, 7.25, 8.0]
COUNTS = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
BOTH = Wanted("det", None, {"pos": "angle"}, "i0")


def taken(documents, wanted=BOTH, *, finish=True, timeout=0.0, **options):
    """Return what comes out of a run's documents."""
    run = RunFrames(wanted, "raw-run", Patience(timeout), **options)
    out = [item for name, document in documents for item in run.take(name, document)]
    out += list(run.finish()) if finish else []
    run.close()
    return out


def numbers(out):
    """Return seq_num -> (position, monitor), the last version of each."""
    return {frame.seq_num: (frame.positions.get("pos"), frame.monitor) for frame in out if isinstance(frame, Frame)}


def reasons(out):
    """Return why frames were skipped, or have no monitor."""
    return [item.reason if isinstance(item, Skipped) else item.monitor_problem for item in out]


EXPECTED = {at + 1: pair for at, pair in enumerate(zip(ANGLES, COUNTS, strict=True))}


# --- columns in files ---------------------------------------------------------------------------------------------


def test_numbers_come_from_columns_in_files(tmp_path):
    lanes = Lanes(tmp_path, 6, columns={"angle": ANGLES, "i0": np.array(COUNTS, np.int32)[:, None]})
    for documents in (lanes.live(), lanes.flown()):
        out = taken(documents)
        assert numbers(out) == EXPECTED
        assert [int(frame.images.read()[0, 0, 0]) for frame in out] == list(range(6))


def test_numbers_from_columns_are_told_as_soon_as_the_last_of_them_is(tmp_path):
    lanes = Lanes(tmp_path, 6, columns={"angle": ANGLES}, event_data={"i0": COUNTS})
    run = RunFrames(BOTH, "raw-run", Patience(0.0))
    ready = [(name, len(list(run.take(name, document)))) for name, document in lanes.live()]
    assert [count for name, count in ready if name == "event"] == [1] * 6
    assert sum(count for name, count in ready if name != "event") == 0
    run.close()
    lanes = Lanes(tmp_path, 6, columns={"angle": ANGLES, "i0": COUNTS})
    assert numbers(taken(lanes.flown(), finish=False)) == EXPECTED


@pytest.mark.parametrize("shape", [(24,), (6, 4), (24, 1), (12, 2)])
def test_numbers_of_several_images_an_event_divide_among_them(tmp_path, shape):
    angles, counts = np.arange(24.0), np.arange(24.0) + 100
    columns = {"angle": angles.reshape(shape), "i0": counts.reshape(shape)}
    out = taken(Lanes(tmp_path, 6, columns=columns, per_event=4).live())
    assert [frame.count for frame in out] == [4] * 6
    assert [frame.positions["pos"] for frame in out] == [1.5, 5.5, 9.5, 13.5, 17.5, 21.5]
    assert [frame.monitors for frame in out] == [tuple(row) for row in counts.reshape(6, 4)]
    assert [frame.monitor for frame in out] == list(counts.reshape(6, 4).mean(axis=1))


def test_numbers_column_of_a_wrong_shape_says_so(tmp_path):
    lanes = Lanes(tmp_path, 6, columns={"angle": np.zeros((6, 4))})
    lanes.head[0][1]["data_keys"]["angle"]["shape"] = [3]
    (reason,) = set(reasons(taken(lanes.live())))
    assert "'angle' is in" in reason
    assert "where /angle has 4 numbers a row, but 3 an event are told" in reason


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mimetype": "text/csv"}, "is in a file of type text/csv, where numbers are not read"),
        ({"uri": "file://localhost/nowhere/a.h5"}, "there is no such file"),
        ({"uri": "http://elsewhere/a.h5"}, "only file:// URIs are read here"),
        ({"parameters": {}}, "names no dataset"),
        ({"parameters": {"dataset": "/b"}}, "has no dataset /b (yet)"),
        ({"parameters": {"dataset": "/words"}}, "is no column of numbers"),
        ({"parameters": {"dataset": "/angle", "slice": "0:1"}}, "with 'slice' in their StreamResource are not read"),
        ({"parameters": {"dataset": "/holes"}}, "'angle' is nan, not a number"),
        ({"parameters": {"dataset": "/short"}}, "/short has 0 rows, fewer than were announced"),
    ],
)
def test_numbers_column_that_cannot_be_read_says_why(tmp_path, change, says):
    lanes = Lanes(tmp_path, 6, columns={"angle": ANGLES})
    with h5py.File(tmp_path / "panda.h5", "a") as file:
        file["words"], file["holes"], file["short"] = ["a"] * 6, np.full(6, np.nan), np.zeros(0)
    lanes.resources[1][1].update(change)
    out = taken(lanes.live(), Wanted("det", None, {"pos": "angle"}, None))
    assert len(out) == 6
    assert all(says in reason and reason.startswith("position 'pos': 'angle'") for reason in reasons(out)), reasons(out)


def test_numbers_column_whose_dataset_is_called_path_is_read(tmp_path):
    lanes = Lanes(tmp_path, 6, columns={"angle": ANGLES}, event_data={"i0": COUNTS})
    for _, document in lanes.resources:
        document["parameters"]["path"] = document["parameters"].pop("dataset")
    assert numbers(taken(lanes.live())) == EXPECTED


def test_numbers_column_that_ends_early_is_read_as_far_as_it_goes(tmp_path):
    lanes = Lanes(tmp_path, 6, columns={"angle": ANGLES, "i0": COUNTS})
    write_columns(tmp_path, angle=ANGLES[:4], i0=COUNTS)
    for documents in (lanes.live(), lanes.flown()):
        out = taken(documents)
        assert numbers(out) == {key: value for key, value in EXPECTED.items() if key < 5}
        assert [item.seq_num for item in out if isinstance(item, Skipped)] == [5, 6]


def test_numbers_column_that_nothing_tells_of_says_so(tmp_path):
    lanes = Lanes(tmp_path, 2, columns={"angle": ANGLES[:2]})
    documents = [d for d in lanes.live() if d[1].get("stream_resource") != "r-angle"]
    out = taken(documents, Wanted("det", None, {"pos": "angle"}, None))
    reason = "position 'pos' needs 'angle', which is written to a file, but no StreamDatum of it came for this seq_num"
    assert reasons(out) == [reason] * 2


def test_numbers_column_goes_on_in_another_file(tmp_path):
    """Indices that start at 0 again, as ophyd-async has it, and indices that go on from file to file."""
    for first in (0, 3):
        lanes = Lanes(tmp_path, 6, event_data={"i0": COUNTS}, angle=number_key([1], external="STREAM:"))
        one, two = (write_columns(tmp_path, f"{at}.h5", angle=ANGLES[at : at + 3]) for at in (0, 3))
        columns = [
            resource("one", "angle", one, "/angle"),
            datum("one", 0, 3),
            resource("two", "angle", two, "/angle"),
            datum("two", first, first + 3, seq_num=4),
        ]
        assert numbers(taken([*lanes.head, *columns, *lanes.live()[1:]])) == EXPECTED


def test_numbers_wait_for_a_column_that_is_still_written(tmp_path):
    lanes = Lanes(tmp_path, 6, event_data={"i0": COUNTS}, angle=number_key([1], external="STREAM:"))
    column = resource("panda", "angle", f"file://localhost{tmp_path}/growing.h5", "/angle")
    file = h5py.File(tmp_path / "growing.h5", "w", libver="latest")
    data = file.create_dataset("angle", (0,), "f8", maxshape=(None,), chunks=(1024,))
    file.swmr_mode = True
    written = threading.Event()

    def write():
        for at, angle in enumerate(ANGLES):
            time.sleep(0.05)
            data.resize((at + 1,))
            data[at] = angle
            data.flush()
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    out = taken([*lanes.head, column, datum("panda", 0, 6), *lanes.live()[1:]], timeout=30.0)
    writer.join()
    file.close()
    assert written.is_set()
    assert numbers(out) == EXPECTED


def test_numbers_wait_for_a_column_only_so_long(tmp_path):
    lanes = Lanes(tmp_path, 6, event_data={"i0": COUNTS}, angle=number_key([1], external="STREAM:"))
    with h5py.File(tmp_path / "chunked.h5", "w", libver="latest") as file:
        # Chunks that were announced, but never written, read as zeros.
        data = file.create_dataset("angle", (6,), "f8", chunks=(2,))
        data[:2] = ANGLES[:2]
    column = resource("panda", "angle", f"file://localhost{tmp_path}/chunked.h5", "/angle")
    out = taken([*lanes.head, column, datum("panda", 0, 6), *lanes.live()[1:]], timeout=0.1)
    assert numbers(out) == {1: (1.0, 10.0), 2: (2.5, 20.0)}
    assert "rows of /angle were announced but are not written (waited 0.1 s for this file" in reasons(out)[2]


def test_numbers_that_are_zero_are_read_from_columns(tmp_path):
    lanes = Lanes(tmp_path, 6, columns={"angle": np.zeros(6), "i0": COUNTS})
    assert {position for position, _ in numbers(taken(lanes.flown())).values()} == {0.0}


def test_numbers_of_inline_frames_come_from_columns_too(tmp_path):
    keys = {"det": {"dtype": "array", "shape": [2, 3], "source": ""}, "angle": number_key([1], external="STREAM:")}
    file = write_columns(tmp_path, angle=ANGLES)
    events = [event(at + 1, {"det": np.full((2, 3), at)}) for at in range(6)]
    rows = [resource("panda", "angle", file, "/angle"), datum("panda", 0, 6)]
    wanted = Wanted("det", None, {"pos": "angle"}, None)
    for documents in ([*rows, *events], [*events, *rows]):
        out = taken([descriptor("primary", keys), *documents], wanted)
        assert [(frame.positions["pos"], frame.images.array[0, 0]) for frame in out] == list(
            zip(ANGLES, range(6), strict=True)
        )


# --- events, configuration, baseline ------------------------------------------------------------------------------


def configured(units="mrad", **values):
    keys = {key: number_key(units=units) for key in values}
    return {"device": {"data": values, "data_keys": keys, "timestamps": dict.fromkeys(values, 0.0)}}


def test_numbers_come_from_the_event_before_configuration_before_baseline(tmp_path):
    lanes = Lanes(tmp_path, 1, event_data={"angle": [1.0]})
    lanes.head[0][1]["configuration"] = configured(angle=2.0, tilt=3.0)
    baseline = [
        descriptor("baseline", dict.fromkeys(("angle", "tilt", "height"), number_key()), "b"),
        event(1, {"angle": 4.0, "tilt": 5.0, "height": 6.0}, of="b"),
        event(2, {"angle": 7.0, "tilt": 8.0, "height": 9.0}, of="b"),
    ]
    wanted = Wanted("det", None, {"a": "angle", "b": "tilt", "c": "height", "d": 1.5}, None)
    at = {"a": 1.0, "b": 3.0, "c": 6.0, "d": 1.5}
    ((frame,), (late,)) = (taken(documents, wanted) for documents in (baseline + lanes.live(), lanes.live() + baseline))
    assert frame.positions == late.positions == at
    (frame,) = taken(
        baseline + lanes.live(), Wanted("det", None, {"a": KeySource(key="angle", stream="baseline")}, None)
    )
    assert frame.positions == {"a": 4.0}


def test_numbers_that_only_a_baseline_can_have_are_waited_for(tmp_path):
    lanes = Lanes(tmp_path, 3, event_data={"i0": COUNTS[:3]})
    wanted = Wanted("det", None, {"pos": "angle"}, "i0")
    assert taken(lanes.live(), wanted, finish=False) == []
    out = taken(lanes.live(), wanted)
    assert (
        reasons(out)
        == [
            "position 'pos' needs 'angle', which is in neither event (which has i0), configuration nor baseline; "
            "add the device to the plan, or correct the recipe"
        ]
        * 3
    )
    late = [descriptor("baseline", {"angle": number_key()}, "b"), event(1, {"angle": 4.0}, of="b")]
    assert [frame.positions["pos"] for frame in taken(lanes.live() + late, wanted, finish=False)] == [4.0] * 3


def test_numbers_that_are_said_to_be_in_the_baseline_are_waited_for(tmp_path):
    lanes = Lanes(tmp_path, 2, event_data={"angle": ANGLES[:2]})
    source = KeySource(key="angle", stream="baseline")
    wanted = Wanted("det", None, {"pos": source}, None)
    late = [descriptor("baseline", {"angle": number_key()}, "b"), event(1, {"angle": 4.0}, of="b")]
    assert taken(lanes.live(), wanted, finish=False) == []
    assert [frame.positions["pos"] for frame in taken(lanes.live() + late, wanted, finish=False)] == [4.0] * 2
    run = RunFrames(wanted, "raw-run", Patience(0.0))
    assert not list(run.take(*lanes.head[0]))
    assert run.missing_sources() == ["angle"]
    says = "position 'pos' needs 'angle', which the stream 'baseline' should bring; the run has primary"
    assert reasons(taken(lanes.live(), wanted)) == [says] * 2
    (name, other), more = descriptor("baseline", {"height": number_key()}, "b"), event(1, {"height": 4.0}, of="b")
    (skipped, _) = taken([(name, other), more, *lanes.live()], wanted)
    assert skipped.reason.endswith("which is not in the stream 'baseline', which has height")


def test_numbers_that_a_baseline_does_not_have_are_not_waited_for(tmp_path):
    lanes = Lanes(tmp_path, 3)
    baseline = [descriptor("baseline", {"height": number_key()}, "b"), event(1, {"height": 4.0}, of="b")]
    out = taken(baseline + lanes.live(), Wanted("det", None, {"pos": "angle"}, None), finish=False)
    assert len(out) == 3
    assert all("in neither event" in reason for reason in reasons(out))


def test_numbers_in_another_stream_are_pointed_at(tmp_path):
    other = [descriptor("i0_monitor", {"i0": number_key()}, "m"), event(1, {"i0": 5.0}, of="m")]
    out = taken(other + Lanes(tmp_path, 1).live(), Wanted("det", None, {}, "i0"))
    assert reasons(out) == [
        "the monitor needs 'i0', which is in the stream 'i0_monitor'; say so: `{key: i0, stream: i0_monitor}`"
    ]
    assert math.isnan(out[0].monitor)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (KeySource(key="angle", to_unit="deg"), 0.2 * 180 / np.pi),
        (KeySource(key="angle", unit="mrad", to_unit="deg"), 0.0002 * 180 / np.pi),
        (KeySource(key="tilt", to_unit="rad"), 0.003),
        (KeySource(key="height", to_unit="m"), 0.0025),
        (KeySource(key="height", unit="µm", to_unit="mm"), 0.0025),
        (KeySource(key="column", to_unit="mdeg"), 4500.0),
        (KeySource(key="column", to_unit="deg"), 4.5),
    ],
)
def test_numbers_are_converted(tmp_path, source, expected):
    lanes = Lanes(
        tmp_path, 1, columns={"column": [4.5]}, event_data={"angle": [0.2]}, units={"angle": "rad", "column": "degrees"}
    )
    lanes.head[0][1]["configuration"] = configured(tilt=3.0)
    baseline = [descriptor("baseline", {"height": number_key(units="mm")}, "b"), event(1, {"height": 2.5}, of="b")]
    (frame,) = taken(baseline + lanes.live(), Wanted("det", None, {"pos": source}, None))
    assert frame.positions["pos"] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("units", "says"),
    [
        (None, "position 'pos': 'angle' comes without units; give its `unit` in the recipe"),
        ("mm", "'mm' is no angle, and cannot become 'deg'; give its `unit` in the recipe"),
        ("steps", "'steps' is no unit that is known here"),
    ],
)
def test_numbers_without_units_that_fit_say_so(tmp_path, units, says):
    lanes = Lanes(tmp_path, 1, event_data={"angle": [0.2]}, units={"angle": units})
    (reason,) = reasons(taken(lanes.live(), Wanted("det", None, {"pos": KeySource(key="angle", to_unit="deg")}, None)))
    assert says in reason


# --- several values, several images, exposure ---------------------------------------------------------------------


def one_event(tmp_path, counts, take, per_event):
    lanes = Lanes(tmp_path, 1, event_data={"i0": [counts]}, per_event=per_event)
    (frame,) = taken(lanes.live(), Wanted("det", None, {}, KeySource(key="i0", take=take)))
    return frame


@pytest.mark.parametrize(
    ("counts", "take", "per_event", "monitor", "monitors"),
    [
        ([5.0], None, 1, 5.0, None),
        ([5.0], None, 4, 5.0, None),
        ([1.0, 2.0, 6.0], None, 1, 9.0, None),
        ([1.0, 2.0, 6.0], "mean", 1, 3.0, None),
        ([1.0, 2.0, 6.0], "first", 1, 1.0, None),
        ([1.0, 2.0, 6.0], None, 3, 3.0, (1.0, 2.0, 6.0)),
        ([1.0, 2.0, 6.0, 7.0], None, 2, 8.0, (3.0, 13.0)),
        ([1.0, 2.0, 6.0, 7.0], "mean", 2, 4.0, (1.5, 6.5)),
        ([1.0, 2.0, 6.0, 7.0], "first", 2, 3.5, (1.0, 6.0)),
        ([1.0, 2.0, 6.0], "mean", 2, 3.0, None),
    ],
)
def test_numbers_several_monitor_values_are_taken_image_by_image(tmp_path, counts, take, per_event, monitor, monitors):
    frame = one_event(tmp_path, counts, take, per_event)
    assert (frame.monitor, frame.monitors, frame.monitor_problem) == (monitor, monitors, "")


def test_numbers_that_cannot_be_told_apart_are_no_sum(tmp_path):
    frame = one_event(tmp_path, [1.0, 2.0, 6.0], "sum", 2)
    assert math.isnan(frame.monitor)
    assert frame.monitor_problem == (
        "the monitor: 'i0' has 3 values for the 2 images of an event; `take: mean` does without"
    )


@pytest.mark.parametrize(("take", "expected"), [(None, 2.0), ("mean", 2.0), ("first", 1.0)])
def test_numbers_several_positions_of_an_event_become_one(tmp_path, take, expected):
    lanes = Lanes(tmp_path, 1, event_data={"angle": [[1.0, 3.0]]}, per_event=2)
    (frame,) = taken(lanes.live(), Wanted("det", None, {"pos": KeySource(key="angle", take=take)}, None))
    assert frame.positions["pos"] == expected


@pytest.mark.parametrize("where", ["event", "configuration", "number", "column"])
def test_numbers_exposure_divides_with_the_monitor(tmp_path, where):
    columns = {"exposure": [0.5]} if where == "column" else {}
    lanes = Lanes(
        tmp_path, 1, columns=columns, event_data={"i0": [8.0]} | ({"exposure": [0.5]} if where == "event" else {})
    )
    lanes.head[0][1]["configuration"] = configured("s", exposure=0.5) if where == "configuration" else {}
    exposure = 0.5 if where == "number" else "exposure"
    (frame,) = taken(lanes.live(), Wanted("det", None, {}, "i0", exposure))
    assert (frame.monitor, frame.monitor_problem) == (4.0, "")
    (frame,) = taken(lanes.live(), Wanted("det", None, {}, None, exposure))
    assert frame.monitor == 0.5


@pytest.mark.parametrize("where", ["event", "configuration", "column", "baseline", "stream"])
@pytest.mark.parametrize(("units", "value"), [("ms", 50.0), ("Milliseconds", 50.0), ("s", 0.05), ("min", 0.05 / 60)])
def test_numbers_exposure_becomes_seconds(tmp_path, where, units, value):
    lanes = Lanes(
        tmp_path,
        1,
        columns={"expo": [value]} if where == "column" else {},
        event_data={"i0": [8.0]} | ({"expo": [value]} if where == "event" else {}),
        units={"expo": units},
    )
    about = number_key(units=units)
    if where == "configuration":
        lanes.head[0][1]["configuration"] = configured(units, expo=value)
    beside = [descriptor(where, {"expo": about}, "b"), event(1, {"expo": value}, of="b")]
    source = KeySource(key="expo", stream="stream", samples=1) if where == "stream" else "expo"
    documents = (beside if where in ("baseline", "stream") else []) + lanes.live()
    (frame,) = taken(documents, Wanted("det", None, {}, None, source))
    assert (frame.monitor, frame.monitor_problem) == (pytest.approx(0.05, rel=1e-14), "")


@pytest.mark.parametrize("units", [None, "", "ticks"])
def test_numbers_exposure_without_a_known_unit_is_taken_for_seconds(tmp_path, units):
    lanes = Lanes(tmp_path, 1, event_data={"expo": [50.0]}, units={"expo": units})
    assert taken(lanes.live(), Wanted("det", None, {}, None, "expo"))[0].monitor == 50.0


def test_numbers_exposure_in_what_is_no_time_says_so(tmp_path):
    lanes = Lanes(tmp_path, 1, event_data={"expo": [50.0]}, units={"expo": "mm"})
    (frame,) = taken(lanes.live(), Wanted("det", None, {}, None, "expo"))
    says = "'mm' is no time, and cannot become 's'; give its `unit` and `to_unit: s` in the recipe"
    assert (math.isnan(frame.monitor), frame.monitor_problem) == (True, f"the exposure: 'expo': {says}")
    (frame,) = taken(lanes.live(), Wanted("det", None, {}, None, KeySource(key="expo", unit="ms", to_unit="s")))
    assert frame.monitor == 0.05


def test_numbers_of_positions_and_monitor_stay_in_their_units(tmp_path):
    lanes = Lanes(tmp_path, 1, event_data={"angle": [2.0], "i0": [50.0]}, units={"angle": "mrad", "i0": "ms"})
    assert numbers(taken(lanes.live())) == {1: (2.0, 50.0)}


def test_numbers_exposure_of_an_event_and_monitor_of_its_images_multiply(tmp_path):
    lanes = Lanes(tmp_path, 1, event_data={"i0": [[8.0, 6.0]], "exposure": [0.5]}, per_event=2)
    (frame,) = taken(lanes.live(), Wanted("det", None, {}, "i0", "exposure"))
    assert frame.monitors == (4.0, 3.0)
    lanes = Lanes(
        tmp_path, 1, event_data={"i0": [8.0], "exposure": [[500.0, 250.0]]}, per_event=2, units={"exposure": "ms"}
    )
    wanted = Wanted("det", None, {}, "i0", KeySource(key="exposure", to_unit="s"))
    assert taken(lanes.live(), wanted)[0].monitors == (4.0, 2.0)


@pytest.mark.parametrize(
    ("counts", "exposure", "monitor", "says"),
    [
        (0.0, 0.5, 0.0, "the monitor 'i0' is not above 0"),
        (-2.0, 0.5, -1.0, "the monitor 'i0' is not above 0"),
        (2.0, 0.0, 0.0, "the exposure 'exposure' is not above 0"),
        (-2.0, -1.0, 2.0, "the monitor 'i0' is not above 0"),
        (float("nan"), 0.5, math.nan, "the monitor: 'i0' is nan, not a number"),
        (2.0, "open", math.nan, "the exposure: 'exposure' is 'open', not a number"),
        ([3.0, 0.0], 0.5, 0.0, "the monitor 'i0' is not above 0"),
    ],
)
def test_numbers_bad_monitor_or_exposure_says_which(tmp_path, counts, exposure, monitor, says):
    lanes = Lanes(tmp_path, 1, event_data={"i0": [counts], "exposure": [exposure]}, per_event=2)
    (frame,) = taken(lanes.live(), Wanted("det", None, {}, "i0", "exposure"))
    assert frame.monitor == pytest.approx(monitor, nan_ok=True)
    assert (frame.monitor_problem, frame.monitors) == (says, None)


# --- other streams ------------------------------------------------------------------------------------------------


def monitored(samples=None, take=None, **about):
    return Wanted("det", None, {}, KeySource(key="i0", stream="m", samples=samples, take=take, **about))


def counted(times, *, counts=None, seq_nums=None):
    """Return a stream of events at these times, each with as many counts as its place says, 1, 2, 3..."""
    counts = counts or [float(at + 1) for at in range(len(times))]
    seq_nums = seq_nums or range(1, len(times) + 1)
    told = [event(n, {"i0": c}, time, of="m") for n, c, time in zip(seq_nums, counts, times, strict=True)]
    return [descriptor("m", {"i0": number_key()}, "m"), *told]


def monitors(out):
    return [frame.monitor for frame in sorted(out, key=lambda frame: frame.seq_num)]


def by_time(*documents):
    """Return documents of several streams in the order of their times, descriptors first."""
    return sorted(
        (d for some in documents for d in some), key=lambda d: d[1].get("time", 0.0) if "event" in d[0] else 0.0
    )


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("samples", [None, 1, "time"])
def test_monitor_stream_of_one_event_a_frame_is_paired(tmp_path, live, samples):
    lanes = Lanes(tmp_path, 4)
    other = counted([0.9, 1.9, 2.9, 3.9])
    documents = by_time(lanes.live(), other) if live else [*lanes.live(), *other]
    assert monitors(taken(documents, monitored(samples))) == [1.0, 2.0, 3.0, 4.0]


def test_monitor_stream_that_comes_after_each_frame_is_paired_all_the_same(tmp_path):
    other = counted([1.1, 2.1, 3.1, 4.1])
    assert monitors(taken([*Lanes(tmp_path, 4).live(), *other], monitored())) == [1.0, 2.0, 3.0, 4.0]


def test_monitor_stream_of_several_events_a_frame_is_summed(tmp_path):
    documents = [*counted([at / 3 for at in range(1, 13)]), *Lanes(tmp_path, 4).live()]
    sums = [1.0 + 2 + 3, 4.0 + 5 + 6, 7.0 + 8 + 9, 10.0 + 11 + 12]
    for samples in (None, 3, "time"):
        assert monitors(taken(documents, monitored(samples))) == sums
    assert monitors(taken(documents, monitored(take="mean"))) == [2.0, 5.0, 8.0, 11.0]
    assert monitors(taken(documents, monitored(3, take="first"))) == [1.0, 4.0, 7.0, 10.0]


def test_monitor_stream_of_any_number_of_events_goes_by_time(tmp_path):
    documents = [*counted([0.2, 0.7, 1.5, 2.0, 2.1, 2.2, 2.6, 5.0]), *Lanes(tmp_path, 3).live()]
    for samples in (None, "time"):
        assert monitors(taken(documents, monitored(samples))) == [1.0 + 2, 3.0 + 4, 5.0 + 6 + 7]


def test_monitor_stream_whose_numbers_and_times_disagree_is_refused(tmp_path):
    documents = [*counted([0.2, 0.7, 0.8, 2.1, 2.2, 2.6]), *Lanes(tmp_path, 3).live()]
    out = taken(documents, monitored())
    assert set(reasons(out)) == {
        "the monitor needs 'i0', which has 6 values for 3 frames, 2 each by their number but not by their times; "
        "say in the recipe which holds, `samples: 2` or `samples: time`"
    }
    assert monitors(taken(documents, monitored(2))) == [3.0, 7.0, 11.0]
    out = taken(documents, monitored("time"))
    assert reasons(out)[1].endswith("none of its events lies between the frame's and the one before")
    assert [frame.monitor for frame in out if frame.seq_num != 2] == [6.0, 15.0]


def test_monitor_stream_is_live_where_the_recipe_says_how(tmp_path):
    lanes, other = Lanes(tmp_path, 4), counted([0.5, 0.9, 1.5, 1.9, 2.5, 2.9, 3.5, 3.9])
    documents = by_time(lanes.live(), other)
    assert monitors(taken(documents, monitored(2), finish=False)) == [3.0, 7.0, 11.0, 15.0]
    assert monitors(taken(documents, monitored("time"), finish=False)) == [3.0, 7.0, 11.0]
    assert taken(documents, monitored(), finish=False) == []


def test_monitor_column_of_another_stream_is_shared_out_by_number(tmp_path):
    counts = np.arange(1.0, 13.0)
    file = write_columns(tmp_path, "counts.h5", i0=counts)
    other = [descriptor("m", {"i0": number_key([1], external="STREAM:")}, "m"), resource("p", "i0", file, "/i0")]
    rows = [datum("p", 0, 5, of="m"), datum("p", 5, 12, of="m")]
    lanes = Lanes(tmp_path, 4)
    sums = list(counts.reshape(4, 3).sum(axis=1))
    for frames in (lanes.live(), lanes.flown()):
        for documents in ([*other, *rows, *frames], [*frames, *other, *rows]):
            assert monitors(taken(documents, monitored())) == sums
            assert monitors(taken(documents, monitored(3), finish=False)) == sums
    out = taken([*other, rows[0], *lanes.flown()], monitored())
    assert set(reasons(out)) == {
        "the monitor needs 'i0', which has 5 values for 4 frames, which is not a whole number each; "
        "say in the recipe how many a frame has, such as `samples: 1`"
    }
    out = taken([*other, rows[0], *lanes.flown()], monitored(3))
    assert [frame.monitor for frame in out][:1] == sums[:1]
    assert reasons(out)[1].endswith("cannot be had from the stream 'm': one of its StreamDatums never came")


def test_monitor_stream_divides_among_images_of_an_event(tmp_path):
    documents = [*Lanes(tmp_path, 2, per_event=2).live(), *counted([0.2, 0.4, 0.6, 0.8, 1.2, 1.4, 1.6, 1.8])]
    assert [frame.monitors for frame in taken(documents, monitored())] == [(3.0, 7.0), (11.0, 15.0)]


def test_monitor_event_of_several_values_counts_as_many(tmp_path):
    keys = {"i0": number_key([2])}
    other = [descriptor("m", keys, "m"), *(event(n, {"i0": [n, n + 0.5]}, n - 0.5, of="m") for n in (1, 2))]
    for samples in (None, 2, "time"):
        assert monitors(taken([*Lanes(tmp_path, 2).live(), *other], monitored(samples))) == [2.5, 4.5]


def test_positions_come_from_another_stream(tmp_path):
    other = counted([0.5, 0.9, 1.5, 1.9], counts=[1.0, 2.0, 5.0, 6.0])
    source = KeySource(key="i0", stream="m", unit="mrad", to_unit="rad")
    out = taken([*other, *Lanes(tmp_path, 2).live()], Wanted("det", None, {"pos": source}, None))
    assert [frame.positions["pos"] for frame in out] == pytest.approx([0.0015, 0.0055])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ([], "the monitor needs 'i0', which the stream 'm' should bring; the run has primary"),
        ([descriptor("m", {"i1": number_key()}, "m")], "is not in the stream 'm', which has i1"),
        ([descriptor("m", {"i0": number_key()}, "m")], "which the stream 'm' did not bring"),
        (counted([0.5, 1.5], counts=[1.0, float("nan")]), "is of no use: its event 2 is nan, not a number"),
        (
            [descriptor("m", {"i0": number_key([2])}, "m"), *(event(n, {"i0": [1.0] * n}, of="m") for n in (1, 2))],
            "is of no use: its events have 1 and 2 values",
        ),
    ],
)
def test_monitor_stream_that_is_of_no_use_says_why(tmp_path, other, says):
    out = taken([*other, *Lanes(tmp_path, 2).live()], monitored())
    assert len(out) == 2
    assert all(says in reason for reason in reasons(out)), reasons(out)


def test_monitor_stream_has_no_values_before_its_first(tmp_path):
    lanes = Lanes(tmp_path, 1)
    told = [*lanes.head, *lanes.resources, datum("r-det", 0, 1, seq_num=0), event(0)]
    other = [descriptor("m", {"i0": number_key()}, "m"), *(event(n, {"i0": float(n)}, of="m") for n in (1, 2))]
    wanted = Wanted("det", None, {}, KeySource(key="i0", stream="m", samples=2))
    (reason,) = reasons(taken(other + told, wanted))
    assert reason.endswith("one of its events never came")


def test_monitor_stream_by_time_needs_the_time_of_a_frame(tmp_path):
    out = taken([*counted([0.5, 1.5]), *Lanes(tmp_path, 2).flown()], monitored("time"))
    assert all("the frame has no event, hence no time" in reason for reason in reasons(out))
    assert monitors(taken([*counted([0.5, 1.5]), *Lanes(tmp_path, 2).flown()], monitored())) == [1.0, 2.0]


def test_monitor_sum_by_time_is_refused_where_the_interval_is_not_one_frame(tmp_path):
    lanes = Lanes(tmp_path, 4)
    samples = counted([0.5, 0.9, 1.5, 1.9, 2.5, 2.9, 3.5])
    out = taken([*samples[:4], *samples[5:], *lanes.live()], monitored("time"))
    # The event that is missing may have come before or after that of frame 2.
    assert [bool(reason) for reason in reasons(out)] == [False, True, True, False]
    assert "one of its events in the frame's time never came" in reasons(out)[1]
    without = [d for d in lanes.live() if d[1] not in (lanes.frames[1][1], lanes.events[1][1])]
    out = taken([*samples, *without], monitored("time"))
    assert [frame.monitor for frame in out if not frame.monitor_problem] == [3.0, 7.0]
    assert "is not known, the event before it never came; or `take: mean`" in reasons(out)[1]
    assert monitors(taken([*samples, *without], monitored("time", take="mean"))) == [1.5, 4.5, 7.0]


def test_monitor_stream_after_a_pause(tmp_path):
    """Events 1 and 2, then a pause and 1, 2, 3 again, while the monitor goes on counting."""
    lanes = Lanes(tmp_path, 5)
    seq_nums = [1, 2, 1, 2, 3]
    told = []
    for at, seq_num in enumerate(seq_nums):
        told += [datum("r-det", at, at + 1, seq_num=seq_num), event(seq_num, time=at + 1 + 10 * (at > 1))]
    head = [*lanes.head, *lanes.resources]
    samples = counted([0.5, 1.5, 5.0, 12.5, 12.9, 13.5, 14.5])
    out = taken([*samples, *head, *told], monitored("time", take="mean"))
    assert [(frame.seq_num, frame.monitor) for frame in out] == [(1, 1.0), (2, 2.0), (1, 4.0), (2, 6.0), (3, 7.0)]
    out = taken([*samples, *head, *told], monitored("time"))
    assert "it is the first one after a pause" in reasons(out)[2]
    rewound = counted([0.5, 1.5, 12.5, 13.5, 14.5], seq_nums=seq_nums)
    for samples_first in (True, False):
        documents = [*rewound, *head, *told] if samples_first else [*head, *told, *rewound]
        out = taken(documents, monitored(1))
        assert {frame.seq_num: frame.monitor for frame in out} == {1: 3.0, 2: 4.0, 3: 5.0}


def test_frames_that_wait_for_another_stream_are_bounded(monkeypatch):
    monkeypatch.setattr("bluesky_powder.frames.joining.held.MOST_BYTES", 500)
    keys = {"det": {"dtype": "array", "shape": [4, 5], "source": ""}}
    frames = [descriptor("primary", keys), *(event(n, {"det": np.zeros((4, 5))}) for n in range(1, 7))]
    out = taken([*frames, *counted([0.5, 1.5, 2.5, 3.5, 4.5, 5.5])], monitored())
    assert [bool(reason) for reason in reasons(out)] == [True] * 3 + [False] * 3
    assert "so many frames are not kept until then; say in the recipe how many values a frame has" in reasons(out)[0]


# --- order and accidents ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A step scan with a column, an event key, a baseline and another stream."""
    folder = tmp_path_factory.mktemp("scan")
    lanes = Lanes(folder, 6, columns={"angle": ANGLES}, event_data={"i0": COUNTS})
    heads = [
        [*lanes.head],
        [descriptor("baseline", {"height": number_key()}, "b")],
        [descriptor("m", {"t": number_key()}, "m")],
    ]
    baseline = [event(n, {"height": 4.0 + n}, 0.1 * n, of="b") for n in (1, 2)]
    slow = [event(n, {"t": 100.0 + n}, n - 0.5, of="m") for n in range(1, 7)]
    return heads, [*lanes.each(), [lanes.resources[0]], [lanes.resources[1]], baseline, slow]


SOURCES = {"pos": "angle", "height": "height", "t": KeySource(key="t", stream="m")}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_numbers_do_not_depend_on_the_order_of_documents(scan, data):
    """Descriptors before what belongs to them, each kind in its own order; otherwise any order at all."""
    heads, lanes = scan
    owner = [0, 0, 0, 0, 0, 1, 2]
    queues = [[(0, d) for d in head] for head in heads] + [[(1, d) for d in lane] for lane in lanes]
    told = []
    while any(queues):
        free = [n for n, queue in enumerate(queues) if queue and (n < 3 or not queues[owner[n - 3]])]
        told.append(queues[data.draw(st.sampled_from(free))].pop(0)[1])
    out = taken(told, Wanted("det", None, SOURCES, "i0"))
    assert numbers(out) == EXPECTED
    assert [frame.seq_num for frame in out if not frame.event_uid.startswith(FRAMES)] == []
    assert {(frame.seq_num, frame.positions["height"], frame.positions["t"]) for frame in out} == {
        (n, 5.0, 100.0 + n) for n in range(1, 7)
    }
    assert sorted(int(frame.images.read()[0, 0, 0]) for frame in out) == list(range(6))


def test_numbers_after_a_pause_belong_to_their_frames(tmp_path):
    """Seq_nums 1, 2 and then 1, 2, 3; the rows of columns go on."""
    lanes = Lanes(tmp_path, 5, columns={"angle": ANGLES[:5]}, event_data={"i0": COUNTS[:5]})
    seq_nums = [1, 2, 1, 2, 3]
    frames, rows = ([datum(r, at, at + 1, seq_num=n) for at, n in enumerate(seq_nums)] for r in ("r-det", "r-angle"))
    events = [event(n, {"i0": COUNTS[at]}, 10 + at) for at, n in enumerate(seq_nums)]
    expected = [(n, ANGLES[at], COUNTS[at], at) for at, n in enumerate(seq_nums)]
    head = [*lanes.head, *lanes.resources]
    live = [d for step in zip(frames, rows, events, strict=True) for d in step]
    for told in (live, [*events, *frames, *rows], [*frames, *rows, *events], [*rows, *events, *frames]):
        out = taken([*head, *told])
        found = [(f.seq_num, f.positions["pos"], f.monitor, int(f.images.read()[0, 0, 0])) for f in out]
        assert sorted(found, key=lambda one: one[3]) == expected


def test_numbers_of_late_stream_resources_and_descriptors(tmp_path):
    lanes = Lanes(tmp_path, 6, columns={"angle": ANGLES, "i0": COUNTS})
    live = lanes.live()
    late = [*lanes.head, *live[len(lanes.head) + 3 :], *lanes.resources]
    assert numbers(taken(late)) == EXPECTED
    assert numbers(taken([*lanes.resources, *lanes.head, *live[len(lanes.head) + 3 :]])) == EXPECTED


def test_numbers_whose_stream_resource_never_comes_skip_each_frame_once(tmp_path):
    lanes = Lanes(tmp_path, 3, columns={"angle": ANGLES[:3]}, event_data={"i0": COUNTS[:3]})
    out = taken([d for d in lanes.live() if d != lanes.resources[1]])
    assert len(out) == 3
    assert all("no StreamDatum of it came" in reason for reason in reasons(out))
    out = taken([d for d in lanes.live() if d != lanes.resources[0]])
    assert sum(item.count for item in out) == 3


def test_numbers_of_an_aborted_run_are_those_that_came(tmp_path):
    lanes = Lanes(tmp_path, 6, columns={"angle": ANGLES}, event_data={"i0": COUNTS})
    documents = lanes.live()
    for cut in range(4, len(documents)):
        out = taken(documents[:cut])
        whole = [item for item in out if isinstance(item, Frame) and not item.monitor_problem]
        assert numbers(whole) == {key: value for key, value in EXPECTED.items() if key <= (cut - 3) // 3}


def test_numbers_of_the_stream_itself_may_be_said_to_be_there(tmp_path):
    lanes = Lanes(tmp_path, 6, columns={"angle": ANGLES}, event_data={"i0": COUNTS})
    there = {name: KeySource(key=name, stream="primary") for name in ("angle", "i0")}
    assert numbers(taken(lanes.live(), Wanted("det", None, {"pos": there["angle"]}, there["i0"]))) == EXPECTED


def test_runs_without_frames_give_nothing():
    documents = [descriptor("primary", {"i0": number_key()}), event(1, {"i0": 1.0}), *counted([0.5])]
    assert taken(documents, monitored()) == []
    assert taken([("stream_datum", datum("r", 0, 1)[1]), ("event", event(1)[1])]) == []


# --- real streams -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared_reference, tmp_path_factory):
    """Return the documents of a real run by name, with a file that holds frames and their sums."""
    folder = tmp_path_factory.mktemp("real")
    frames = np.arange(1, 13, dtype=np.uint8)[:, None, None] + np.zeros((1, 240, 320), np.uint8)
    uri = write_hdf5(folder, frames)
    with h5py.File(folder / "frames.h5", "a") as file:
        file["entry/sum"] = frames.sum(axis=(1, 2), dtype=np.int64)

    def documents(name):
        told = reference_run(shared_reference, name)
        return [(n, d | {"uri": uri} if n == "stream_resource" else d) for n, d in told if n not in ("start", "stop")]

    return documents


SUM = 240 * 320


@pytest.mark.parametrize(
    ("name", "positions", "expected"),
    [
        ("async_count", {}, [({}, [SUM * at]) for at in (1, 2, 3)]),
        (
            "async_scan",
            {"x": "motor", "v": "motor-velocity"},
            [({"x": float(at), "v": 0.0}, [SUM * (at + 1)]) for at in range(3)],
        ),
        (
            "async_scan_baseline",
            {"x": "motor", "y": "stage-y", "b": KeySource(key="motor", stream="baseline", to_unit="m")},
            [({"x": float(at), "y": 0.0, "b": 0.002}, [SUM * (at + 1)]) for at in range(2)],
        ),
        (
            "async_count_4_per_event",
            {"x": "motor"},
            [({"x": 2.0}, [SUM * (4 * n + at) for at in (1, 2, 3, 4)]) for n in (0, 1)],
        ),
        ("async_fly", {"p": "bdet2-sum"}, [({"p": float(SUM * at)}, [SUM * at]) for at in range(1, 13)]),
    ],
)
def test_numbers_of_real_streams(real, name, positions, expected):
    documents = real(name)
    reversed_halves = [d for d in documents if "stream" not in d[0]] + [d for d in documents if "stream" in d[0]]
    for told in (documents, reversed_halves):
        out = taken(told, Wanted("bdet", None, positions, "bdet-sum"))
        assert [frame.seq_num for frame in out] == list(range(1, len(expected) + 1))
        for frame, (at, counts) in zip(out, expected, strict=True):
            assert frame.positions == at
            assert list(frame.monitors or [frame.monitor]) == counts
            assert frame.images.read().shape == (len(counts), 240, 320)
            assert [int(image.sum()) for image in frame.images.read()] == counts


def test_numbers_of_real_streams_of_old_devices(shared_reference):
    out = taken(
        reference_run(shared_reference, "legacy_img_scan"),
        Wanted("img", None, {"x": "motor", "v": "motor_velocity"}, None),
    )
    assert [frame.positions for frame in out] == [{"x": 0.0, "v": 1.0}, {"x": 1.0, "v": 1.0}]
    documents = reference_run(shared_reference, "legacy_direct_img_inline")
    told = [(n, d | {"data": {"img": np.ones((10, 10))}} if n == "event" else d) for n, d in documents]
    assert [frame.images.read().sum() for frame in taken(told, Wanted("img", None, {}, None))] == [100.0, 100.0]
