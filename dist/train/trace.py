"""What a few training steps do, operator by operator, as a file that chrome://tracing and ui.perfetto.dev show."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from ..ranks.runtime import Runtime
from .observers import Observer, Step

_SKIPPED, _WARM_UP, _TRACED = 10, 2, 5  # steps


class Trace(Observer):
    """Traces steps 13 to 17 of this process and writes ``trace.rankR.json`` into the run folder."""

    def __init__(self, run: Path, runtime: Runtime):
        self._path = run / f"trace.rank{runtime.rank}.json"
        self._written = False
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        self._profile = profile(
            activities=activities,
            schedule=schedule(wait=_SKIPPED, warmup=_WARM_UP, active=_TRACED, repeat=1),
            on_trace_ready=self._write,
        )
        self._profile.start()

    def after_step(self, step: Step) -> None:
        """Takes note that a step is over."""
        self._profile.step()

    def finish(self, stopped: bool) -> None:
        """Ends tracing; a run of fewer steps has what it did so far."""
        self.fail()

    def fail(self) -> None:
        """Ends tracing."""
        self._profile.stop()

    def _write(self, profiler: profile) -> None:
        if not self._written:
            self._path.unlink(missing_ok=True)  # a link would be written through
            profiler.export_chrome_trace(str(self._path))
            self._written = True
