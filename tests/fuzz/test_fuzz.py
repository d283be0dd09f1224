"""Half a minute of the draws that `make chaos` has two thousand of."""

from pathlib import Path

import pytest

from .fuzz import Fuzz

DRAWS = 60


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Fuzz:
    return Fuzz(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("first", range(0, DRAWS, 20))
def test_what_is_given_is_right_or_what_is_wrong_is_told(drawing: Fuzz, first: int):
    found = {drawing.draw(number) for number in range(first, first + 20)}
    assert {outcome.split()[1] for outcome in found} == {"done", "told"}


def test_a_wrong_score_would_be_seen(drawing: Fuzz, tmp_path: Path):
    """The checks themselves: another run's scores are not taken for this one's."""
    from .fuzz import _close

    wanted = drawing.wanted["score"]
    assert _close(wanted, wanted)
    at = wanted.column_names.index("score_click")
    shifted = wanted.set_column(
        at, "score_click", [[None if v is None else v + 1e-3 for v in wanted["score_click"].to_pylist()]]
    )
    assert not _close(shifted, wanted)
