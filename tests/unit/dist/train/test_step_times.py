import torch
from torch import nn

from foundrank.dist.train import step_times
from foundrank.dist.train.observers import Step
from foundrank.dist.train.step_times import PARTS, Startup, StepTimes


class Clock:
    """Tells one second more at every look."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1.0
        return self.now

    def time(self) -> float:
        return 1e9 + self.now


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self):
        return self.weight * 2, {}


def test_every_part_of_a_step_is_the_time_up_to_its_mark(monkeypatch):
    monkeypatch.setattr(step_times, "time", Clock())
    model = Model()
    times = StepTimes(model, torch.device("cpu"))
    times.restart()
    for _ in range(2):  # as TorchRec's pipeline does: exchange, fetch, forward, exchange, backward, optimizer
        times.mark("exchange")
        times.mark("data")
        loss, _ = model()
        loss.backward()
        times.mark("backward")
        times.mark("optimizer")
    # One second from each mark to the next: three times exchange, once each of the others.
    assert dict(zip(PARTS, times.seconds(), strict=True)) == {
        "data": 2, "exchange": 6, "forward": 2, "backward": 2, "optimizer": 2,
    }  # fmt: skip
    assert times.seconds() == [0.0] * 5


def test_evaluation_marks_no_backward_and_can_be_left_out(monkeypatch):
    monkeypatch.setattr(step_times, "time", Clock())
    model = Model()
    times = StepTimes(model, torch.device("cpu"))
    times.restart()
    with torch.no_grad():
        model()
    assert dict(zip(PARTS, times.seconds(), strict=True))["backward"] == 0
    with torch.no_grad():
        model()
    times.restart()
    assert times.seconds() == [0.0] * 5


def test_the_first_step_ends_the_start_up(monkeypatch):
    monkeypatch.setattr(step_times, "time", Clock())
    startup = Startup(0.0, 0.25)  # long before this process was there
    startup.done("tables")
    startup.after_step(Step(1, 0, 0, 0.0, None))
    first = dict(startup.seconds), startup.first_step_at
    startup.after_step(Step(1, 0, 0, 0.0, None))
    assert (startup.seconds, startup.first_step_at) == first
    assert list(startup.seconds) == ["process and imports", "checks", "tables", "first batch and step"]
    assert startup.seconds["first batch and step"] == 1.0
