"""What a training run tells while it goes: its progress, metrics.jsonl and TensorBoard."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from ...data.batch.batch import Batch
from ...data.config.experiment import Experiment
from ...data.epoch.order import RankOrder
from ...data.schema.layout import Layout
from ...data.storage.local_writes import write_text
from ...model.tasks.metrics import defined
from ..logs.progress import Progress
from ..logs.records import info
from ..ranks.runtime import Runtime
from ..run.run_folder import METRICS, read_metrics
from .observers import Observer, Step
from .optimizer import Optimizer
from .step_times import PARTS, StepTimes, memory_mb


class TrainingLog(Observer):
    """Collects on every rank, writes on rank 0. Losses stay on the device between two lines, so no step waits for them."""

    def __init__(
        self,
        run: Path,
        experiment: Experiment,
        runtime: Runtime,
        layout: Layout,
        times: StepTimes,
        optimizer: Optimizer,
    ):
        self._run, self._experiment, self._runtime, self._layout = run, experiment, runtime, layout
        self._times, self._optimizer = times, optimizer
        self._progress = Progress("training", "samples", metric="training", main=runtime.is_main, said=self._told)
        self._step, self._line = 0, dict[str, Any]()
        self._writer: SummaryWriter | None = None
        self._reset()

    def start(self, step: int) -> None:
        """Opens the files; lines of steps after ``step``, left by an interrupted run, are dropped."""
        self._step = step
        self._progress.__enter__()
        if not self._runtime.is_main:
            return
        path = self._run / METRICS
        lines, _ = read_metrics(path)
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines if line["step"] <= step))
        self._writer = SummaryWriter(str(self._run / "tensorboard"), purge_step=step + 1)

    def reading(self, order: RankOrder, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; the time spent waiting for each counts as data wait."""
        while True:
            asked = time.perf_counter()
            self._times.mark("exchange")
            batch = next(batches, None)
            self._times.mark("data")
            self._waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def after_step(self, step: Step) -> None:
        """Takes note of one step; every ``log_every`` steps all ranks sum theirs and rank 0 writes a line."""
        outputs = step.outputs
        self._rows += (rows := len(outputs.logits))
        self._losses = outputs.losses + self._losses
        self._counts = outputs.counts + self._counts
        self._alignment = outputs.alignment + self._alignment
        self._next_item = outputs.next_item + self._next_item
        if outputs.list_losses is not None:
            self._list_losses = [outputs.list_losses + sum(self._list_losses)]
        self._steps += 1
        if self._progress.share is None:
            self._progress.begin_at(step.progress)
        self._step, self._progress.share = step.number, step.progress
        self._progress.add(rows * self._runtime.world_size)
        if step.number % self._experiment.training.log_every == 0:
            self._write(step)

    def pause(self) -> None:
        """What follows, until the next step, is no training: it counts neither as time nor as rows."""
        self._paused = time.perf_counter()

    def resume(self) -> None:
        """Training goes on."""
        self._since += time.perf_counter() - self._paused
        self._times.restart()

    def epoch(self, epoch: float, validation: float | None) -> None:
        """Says that so many epochs are over, and what the checkpoint is chosen by."""
        if self._runtime.is_main:
            said = f"epoch {epoch:.3g} of {self._experiment.training.epochs}"
            metric = (
                " and ".join(dict.fromkeys(task.measures.chosen_by for task in self._layout.task_kinds)) or "NDCG@10"
            )
            if validation is not None:
                said += f": validation {metric} {validation:.4f}"
            info(said, "epoch", epoch=epoch, metric=metric, validation=validation, step=self._step)

    def finish(self, stopped: bool) -> None:
        """Ends the progress, which is full unless the training was stopped, and closes the files."""
        if not stopped:
            self._progress.share = 1.0
        self._progress.tell()
        self.fail()

    def fail(self) -> None:
        """Leaves the progress where it is, and closes the files."""
        self._progress.__exit__(None)
        if self._writer is not None:
            self._writer.close()

    def _reset(self) -> None:
        self._losses: Any = 0.0
        self._counts: Any = 0.0
        self._alignment: Any = 0.0
        self._next_item: Any = 0.0
        self._list_losses: list[torch.Tensor] = []
        self._steps = 0
        self._rows, self._waited, self._since = 0, 0.0, time.perf_counter()
        self._times.restart()

    def _write(self, step: Step) -> None:
        seconds = time.perf_counter() - self._since
        ranks = self._runtime.world_size
        each = (self._losses, self._counts, *self._list_losses, self._next_item, self._alignment)
        flat = torch.cat([values.flatten() for values in each]).double()
        host = [self._rows, self._waited, memory_mb(self._runtime.device), *self._times.seconds()]
        total = self._runtime.sum(torch.cat([flat.cpu(), torch.tensor(host, dtype=torch.float64)]))
        size = self._losses.numel()
        losses, counts = total[:size].view_as(self._losses), total[size : 2 * size].view_as(self._losses)
        of_lists = {}
        if self._list_losses:
            of_lists = self._per_task(*total[2 * size : 4 * size].view(2, *self._losses.shape))
        found, to_find, alignment, rows, waited, memory, *parts = total[
            2 * size * (1 + len(self._list_losses)) :
        ].tolist()
        line: dict[str, Any] = {
            "step": step.number,
            "epoch": step.epoch + 1,
            "rows": round(rows),
            "loss": _mean(losses.sum(), counts.sum()) if size else found / max(to_find, 1),
            "losses": self._per_task(losses, counts),
            "list_losses": of_lists,
            "next_item": found / to_find if to_find else None,
            "alignment": alignment / (self._steps * ranks),
            "samples_per_s": rows / seconds,
            "data_wait_share": min(waited / ranks / seconds, 1.0),
            "step_ms": {
                part: 1000 * of_part / (self._steps * ranks) for part, of_part in zip(PARTS, parts, strict=True)
            },
            "memory_mb": memory / ranks,
            "lr": self._experiment.training.learning_rate * self._optimizer.share,
            "sparse_lr": self._experiment.training.sparse_learning_rate * self._optimizer.share,
            "gradient_norm": defined(float(self._optimizer.gradient_norm)),
        }
        if self._runtime.is_main:
            with (self._run / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self._show(line)
        self._reset()

    def _per_task(self, losses: torch.Tensor, counts: torch.Tensor) -> dict[str, float]:
        """``domain/task`` -> mean loss, of those that had labels."""
        out = {}
        for d, domain in enumerate(self._layout.domains):
            for t, task in enumerate(self._layout.tasks):
                if counts[d, t] > 0 and self._layout.task_weights[d][t] > 0:
                    out[f"{domain}/{task}"] = (losses[d, t] / counts[d, t]).item()
        return out

    def _show(self, line: dict[str, Any]) -> None:
        assert self._writer is not None
        for name in ("loss", "alignment", "samples_per_s", "data_wait_share", "memory_mb", "lr", "gradient_norm"):
            if line[name] is not None:
                self._writer.add_scalar(name, line[name], line["step"])
        for name, value in line["step_ms"].items():
            self._writer.add_scalar(f"step_ms/{name}", value, line["step"])
        if line["next_item"] is not None:
            self._writer.add_scalar("loss/next_item", line["next_item"], line["step"])
        for name, value in line["losses"].items():
            self._writer.add_scalar(f"loss/{name}", value, line["step"])
        for name, value in line["list_losses"].items():
            self._writer.add_scalar(f"list_loss/{name}", value, line["step"])
        first, self._line = not self._line, line
        if first:
            self._progress.tell()

    def _told(self, progress: Progress) -> tuple[str, dict[str, Any]]:
        """Words and fields of a line of progress: the step now, and what the last line of metrics.jsonl says."""
        line = self._line
        if not line:
            return f"step {self._step}", {"step": self._step}
        parts = "  ".join(f"{part} {ms:.0f}" for part, ms in line["step_ms"].items())
        words = f"loss {line['loss']:.4f}  {line['samples_per_s']:,.0f} samples/s  step {self._step}  ms: {parts}  {line['memory_mb']:,.0f} MB"
        named = ("epoch", "loss", "samples_per_s", "data_wait_share", "memory_mb")
        return words, {"step": self._step, **{name: line[name] for name in named}}


def _mean(total: torch.Tensor, count: torch.Tensor) -> float:
    return (total / count).item() if count > 0 else 0.0
