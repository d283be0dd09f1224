"""The batch size that the data decides."""

import pickle

import pytest

from foundrank.data.config.load import dump_experiment, load_experiment
from foundrank.data.counting.by_size import by_size
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


def loaded(*overrides, batch_size=None, raw=None):
    raw = raw or experiment_dict()
    raw["training"] = {} if batch_size is None else {"batch_size": batch_size}
    return load_experiment(raw, overrides, kinds=KINDS)


@pytest.mark.parametrize(
    ("rows", "decided"),
    [(0, 128), (1_999, 128), (2_000, 256), (19_999, 256), (20_000, 512), (49_999, 512), (50_000, 1024), (10**10, 1024)],
)
def test_few_rows_have_small_batches(rows, decided):
    assert by_size(loaded(), rows).training.batch_size == decided


def test_what_is_written_counts():
    assert by_size(loaded(batch_size=1024), 100).training.batch_size == 1024
    assert by_size(loaded("training.batch_size=7"), 100).training.batch_size == 7
    assert by_size(loaded("training.epochs=7"), 100).training.batch_size == 128


def test_what_is_decided_is_written_and_never_decided_again(tmp_path):
    decided = by_size(loaded(), 100)
    (tmp_path / "experiment.yaml").write_text(dump_experiment(decided))
    again = load_experiment(tmp_path, kinds=KINDS)
    assert by_size(again, 10**6).training.batch_size == 128
    assert again.training.says_batch_size


def test_ranks_get_what_is_silent_as_it_is():
    assert not pickle.loads(pickle.dumps(loaded())).training.says_batch_size  # noqa: S301


def test_lists_have_to_fit_so_there_it_is_the_default():
    raw = experiment_dict()
    raw["domains"]["find"]["tasks"]["click"]["list_loss"] = "softmax"
    assert by_size(loaded(raw=raw), 100).training.batch_size == 1024
