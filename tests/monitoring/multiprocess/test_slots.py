"""Slots of workers without a master, in one process: a lock of another open file is another's lock."""

from pathlib import Path

from app.monitoring.multiprocess import slots
from app.monitoring.multiprocess.directory import claim


def test_the_first_free_slot_is_taken_and_counted_until_its_file_is_closed(tmp_path: Path) -> None:
    claim(tmp_path).close()
    slots.note_configured(tmp_path, 3)
    (first, one), (second, other) = (slots.claim(tmp_path, pid, 1) for pid in (10, 11))
    assert (first, second) == (0, 1)
    assert slots.count(tmp_path) == slots.Workers(live=2, configured=3)
    one.close()
    assert slots.count(tmp_path) == slots.Workers(live=1, configured=3)
    again, one = slots.claim(tmp_path, 12, 1)
    assert again == 0
    one.close()
    other.close()


def test_a_process_manager_that_imports_the_application_is_no_worker(tmp_path: Path) -> None:
    claim(tmp_path).close()
    slots.note_configured(tmp_path, 0)
    held = [slots.claim(tmp_path, pid, parent)[1] for pid, parent in ((10, 1), (11, 10), (12, 10))]
    assert slots.count(tmp_path) == slots.Workers(live=2, configured=None)
    for file in held:
        file.close()


def test_another_service_in_the_directory_is_not_counted_by_an_earlier_ones_note(tmp_path: Path) -> None:
    claim(tmp_path).close()
    assert slots.count(tmp_path) is None
    slots.note_configured(tmp_path, 2)
    assert slots.count(tmp_path) == slots.Workers(live=0, configured=2)
    claim(tmp_path).close()
    assert slots.count(tmp_path) is None
