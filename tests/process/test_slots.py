"""Process metrics of workers by slot."""

from pathlib import Path

from tests.process.service import service, wait_for


def test_each_slot_has_metrics_and_a_successor_continues_them(tmp_path: Path, addresses: dict[str, str]) -> None:
    def slots(sample: str) -> set[str]:
        lines = [line for line in running.scrape().splitlines() if line.startswith(sample + "{")]
        return {line.split('worker="')[1].split('"')[0] for line in lines}

    with service(tmp_path, WEB_CONCURRENCY="3", **addresses) as running:
        everybody = {"0", "1", "2", "exporter"}
        wait_for(lambda: slots("process_resident_memory_bytes") == everybody, "the figures of all workers")
        assert slots("baliblissed_worker_event_loop_lag_seconds") <= everybody
        for _ in range(3):
            victim = running.workers()[0]
            victim.kill()
            wait_for(lambda: len(running.workers()) == 3 and victim not in running.workers(), "a successor")  # noqa: B023
        wait_for(lambda: slots("process_resident_memory_bytes") == everybody, "the figures of the successors")
        assert slots("process_cpu_seconds_total") == everybody
        assert running.total("baliblissed_worker_boots_total") == 6
        assert running.total("baliblissed_build_info", environment="production") == 1
