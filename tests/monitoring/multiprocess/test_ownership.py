"""Directories and links of other local users on the way to the metrics directory."""

import os
import re
from pathlib import Path

import pytest

from app.monitoring.doctor import Situation
from app.monitoring.doctor.directory import shared_directory
from app.monitoring.multiprocess.directory import DirectoryError, claim
from app.monitoring.multiprocess.ownership import open_directory, planted_entry
from app.monitoring.options import Options, OptionsError
from app.monitoring.server import standalone

OTHER = 54_321
STICKY = 0o1777
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory to another user takes root")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return a directory like /tmp."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(STICKY)
    return path


def made(path: Path, mode: int = 0o700, user: int | None = None) -> Path:
    """Make a directory with this mode, of this user."""
    path.mkdir()
    path.chmod(mode)
    if user is not None:
        os.chown(path, user, user)
    return path


def codes(path: Path) -> list[tuple[str, str]]:
    return [(found.code, found.severity) for found in shared_directory(Situation(directory=path))]


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_directory_of_another_user_in_a_shared_place_is_refused(shared: Path, mode: int) -> None:
    path = made(shared / "metrics", mode, OTHER)
    assert codes(path) == [("directory-of-another-user", "error")]
    said = re.escape(f"{str(path)!r} belongs to another user")
    with pytest.raises(DirectoryError, match=said):
        claim(path)
    with pytest.raises(OptionsError, match=said):
        standalone.make_directory(Options.read({"metrics_directory": path}, environment={}))
    assert list(path.iterdir()) == []


@as_root
def test_a_link_of_another_user_in_a_shared_place_is_not_followed(shared: Path, tmp_path: Path) -> None:
    target, link = made(tmp_path / "own"), shared / "metrics"
    kept = target / "archive"
    kept.write_text("of the service's user")
    link.symlink_to(target)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    for path in (link, link / "below"):
        assert planted_entry(path) == link
        assert codes(path) == [("directory-of-another-user", "error")]
        with pytest.raises(DirectoryError, match="belongs to another user"):
            claim(path)
    assert kept.exists()


@as_root
def test_a_directory_below_one_of_another_user_in_a_shared_place_is_refused(shared: Path) -> None:
    parent = made(shared / "theirs", 0o777, OTHER)
    assert planted_entry(parent / "metrics") == planted_entry(made(parent / "metrics")) == parent


@as_root
def test_the_target_of_an_own_link_is_examined_too(shared: Path, tmp_path: Path) -> None:
    theirs = made(shared / "theirs", 0o777, OTHER)
    (tmp_path / "link").symlink_to(theirs)
    assert planted_entry(tmp_path / "link" / "metrics") == theirs


@as_root
def test_a_directory_of_another_user_in_a_place_closed_to_others_is_an_administrators_choice(tmp_path: Path) -> None:
    # /run/shop of the user that gunicorn switches to.
    path = made(tmp_path / "shop", 0o700, OTHER)
    assert codes(path) == []
    claim(path).close()


@as_root
@pytest.mark.parametrize("mode", [0o2770, 0o750])
def test_a_directory_of_root_may_be_writable_for_a_group(tmp_path: Path, mode: int) -> None:
    assert codes(made(tmp_path / "metrics", mode)) == []


@as_root
def test_a_directory_that_another_users_group_may_write_in_is_found(tmp_path: Path) -> None:
    assert codes(made(tmp_path / "metrics", 0o770, OTHER)) == [("directory-open-to-others", "warning")]


@pytest.mark.parametrize("mode", [0o777, STICKY, 0o703])
def test_a_directory_that_all_users_may_write_in_is_found_and_used(tmp_path: Path, mode: int) -> None:
    path = made(tmp_path / "metrics", mode)
    assert codes(path) == [("directory-open-to-others", "warning")]
    claim(path).close()


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_that_only_its_owner_may_write_in_is_none(shared: Path, mode: int) -> None:
    assert codes(made(shared / "metrics", mode)) == []


def test_a_directory_that_other_users_may_replace_is_found(tmp_path: Path) -> None:
    parent = made(tmp_path / "open", 0o777)
    assert open_directory(parent / "not yet") == open_directory(made(parent / "metrics")) == parent


def test_a_directory_that_the_service_makes_is_closed_to_others(shared: Path) -> None:
    before = os.umask(0)
    try:
        claim(shared / "metrics").close()
    finally:
        os.umask(before)
    assert (shared / "metrics").stat().st_mode & 0o777 == 0o700
    assert codes(shared / "metrics") == []


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])  # noqa: S108
def test_a_place_that_all_users_share_is_found(place: str) -> None:
    if not Path(place).is_dir():
        pytest.skip(f"there is no {place}")
    assert codes(Path(place)) == [("directory-open-to-others", "warning")]


def test_a_link_in_a_loop_ends_the_examination(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert planted_entry(tmp_path / "loop" / "metrics") is None


def test_a_path_with_dots_is_examined(shared: Path) -> None:
    made(shared / "metrics")
    assert planted_entry(shared / "metrics" / ".." / "metrics") is None
