"""Processes that begin to tune in one folder at the same time."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.tune.prepare import JOB, keep_tuning
from foundrank.dist.tune.space import Setting
from foundrank.dist.tune.turns import alone
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


def test_one_of_several_that_begin_at_once_notes_what_is_tuned(tmp_path):
    experiment = load_experiment(experiment_dict(), kinds=KINDS)
    space = {"training.epochs": Setting(linear=(1, 5))}
    job = SimpleNamespace(out=tmp_path / "out", experiment=experiment, space=space, asked="")
    with ThreadPoolExecutor(3) as pool:
        with alone(job.out, "job"):
            same = [pool.submit(keep_tuning, job, 1) for _ in range(2)]
            with pytest.raises(TimeoutError):
                same[0].result(timeout=0.5)
            assert not (job.out / JOB).exists()
        for one in same:
            one.result()
        with pytest.raises(UserError, match=r"holds trials of something else .*seed"):
            pool.submit(keep_tuning, job, 2).result()
