"""The cached layout of a growing file."""

import struct
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.monitoring.multiprocess.layout import BadFileError, Key, Layout, encode_key, parse, used
from app.monitoring.multiprocess.mapped_file import MappedFile
from tests.monitoring.multiprocess import simulated

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = st.lists(st.binary(min_size=1, max_size=50), unique=True, max_size=30)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=10)


@PATIENT
@given(KEYS, st.booleans(), st.sampled_from([16, 256]), st.data())
def test_a_layout_that_grows_with_its_file_knows_every_entry(
    keys: list[bytes],
    timed: bool,  # noqa: FBT001 -- hypothesis gives it by place
    payload: int,
    data: st.DataObject,
) -> None:
    layout = Layout(timed=timed, payload=payload)
    # Closed whatever happens: hypothesis may end an example where it is asked for more.
    with simulated.scene() as scene, closing(MappedFile(scene.directory / "counter_1.db", payload)) as file:
        expected: list[float] = []
        for number, key in enumerate(keys):
            cell = file.position(key) // 8
            file.cells[cell], file.cells[cell + 1] = float(number), -float(number)
            expected += [float(number), -float(number)] if timed else [float(number)]
            if data.draw(st.booleans()):
                layout.extend(in_use(file))
        content = in_use(file)
        layout.extend(content)
        assert layout.extend(content) == 0
        assert layout.keys == keys
        assert layout.positions == [file.position(key) for key in keys]
        assert list(layout.values(content)) == expected


def in_use(file: MappedFile) -> bytes:
    content = file.path.read_bytes()
    return content[: used(content)]


def test_a_file_that_has_shrunk_is_bad() -> None:
    entry = struct.pack("=i4s8sdd", 4, b"key1", b" " * 8, 0, 0)
    layout = Layout()
    assert layout.extend(bytes(8) + entry * 2) == 2
    with pytest.raises(BadFileError, match="40 bytes are in use, they were 72"):
        layout.extend(bytes(8) + entry)
    with pytest.raises(BadFileError, match="0 bytes are in use, they were 72"):
        layout.extend(b"")


def test_values_of_less_than_the_layout_are_bad() -> None:
    layout = Layout()
    layout.extend(bytes(8) + struct.pack("=i4s8sdd", 4, b"key1", b" " * 8, 0, 0))
    with pytest.raises(BadFileError, match="unpack_from requires"):
        layout.values(bytes(8))


@PATIENT
@given(TEXTS.filter(bool), TEXTS, st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=4), TEXTS)
def test_a_key_is_read_as_it_was_written(metric: str, sample: str, labels: dict[str, str], text: str) -> None:
    key = Key(metric, sample, tuple(sorted(labels.items())), text)
    assert parse(encode_key(key, key.labels)) == key


def test_half_a_surrogate_pair_is_shown_as_a_question_mark() -> None:
    key = parse(rb'["a\ud800", "b\udfff", {"c\ud800": "d\ud83d\ude00", "e": "f\ud83d"}, "\ud800"]')
    assert key == Key("a?", "b?", (("c?", "d\U0001f600"), ("e", "f?")), "?")


def test_a_file_without_content_has_no_entries_and_is_not_bad() -> None:
    assert Layout().extend(b"") == 0


def test_an_entry_whose_padding_passes_the_end_is_bad() -> None:
    with pytest.raises(BadFileError, match="the entry at byte 12 is cut off"):
        Layout().extend(bytes(8) + struct.pack("=i4s", 4, b"key1") + bytes(16))
