"""The form of LOG_LEVEL."""

import pytest

from app.monitoring.logs.levels import LEVELS, Levels, parse_levels


@pytest.mark.parametrize("level", LEVELS)
def test_one_level_is_for_every_logger(level: str) -> None:
    assert parse_levels(level.lower()) == Levels(level)
    assert parse_levels(level).of("any.logger") == level


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("app", "INFO"),
        ("app.cache", "DEBUG"),
        ("app.cache.redis", "DEBUG"),
        ("app.cache.redis.pool", "ERROR"),
        ("app.cache.redis.pool.x", "ERROR"),
        ("app.cached", "INFO"),
        ("cache", "INFO"),
        ("access", "WARNING"),
        ("", "INFO"),
    ],
)
def test_a_name_stands_for_what_is_below_it_too_until_a_longer_one_says_otherwise(name: str, level: str) -> None:
    levels = parse_levels("INFO,app.cache=DEBUG,app.cache.redis.pool=ERROR,access=warning")
    assert levels.of(name) == level


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("debug", "DEBUG"),
        (" info , a.b = debug ", "INFO,a.b=DEBUG"),
        ("a=DEBUG", "INFO,a=DEBUG"),
        ("a=DEBUG,ERROR", "ERROR,a=DEBUG"),
        ("INFO,_x-1.y=CRITICAL", "INFO,_x-1.y=CRITICAL"),
    ],
)
def test_case_and_spaces_do_not_matter_and_the_level_of_all_others_is_info_unless_said(text: str, form: str) -> None:
    assert str(parse_levels(text)) == form
    assert parse_levels(form) == parse_levels(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("loud", "'loud' is no level"),
        ("", "'' is no level"),
        ("INFO,", "'' is no level"),
        ("INFO,a=loud", "'loud' is no level"),
        ("INFO,=DEBUG", "'' is no logger's name"),
        ("INFO,a=b=DEBUG", "'a=b' is no logger's name"),
        ("INFO,a..b=DEBUG", "'a..b' is no logger's name"),
        ("INFO,a b=DEBUG", "'a b' is no logger's name"),
        ("INFO,a:DEBUG", "'a:DEBUG' is no level"),
        ("INFO,DEBUG", "the level of all others is given twice"),
        ("a=INFO,a=DEBUG", "a is given twice"),
    ],
)
def test_anything_else_is_refused_with_the_form_that_is_wanted(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"want 'DEBUG', .* such as INFO,app\.cache=DEBUG: ") as caught:
        parse_levels(text)
    assert str(caught.value).endswith(f": {problem}")
