"""The embed job: every text, and whatever else is embedded, of every catalog through its frozen encoder, into the content store."""

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ...data.config.experiment import Experiment
from ...data.contents.catalog_inputs import CatalogInputs
from ...data.contents.content_store import store_folder
from ...data.contents.embed_work import shard_digests, shard_positions
from ...data.contents.store_mirror import begin_from_published, publish_store
from ...data.contents.store_shards import Shard, as_halves, noted, write_shard
from ...data.contents.store_writer import make_store
from ...data.machine.memory import give_back_memory
from ...data.storage.file_systems import is_uri
from ...data.storage.mirror import mirrored, shown
from ...model.contents import ENCODERS
from ...model.contents.content_encoder import ContentEncoder
from ..logs import prometheus
from ..logs.progress import Progress
from ..logs.records import info
from ..ranks.runtime import Runtime, threads_kept
from .store_check import check_store_place
from .work_list import Plan, finish, make_plan, precision_of

_MOST_WORKERS = 8
_READ_TOGETHER = 1 << 14  # texts
_SHOW_EVERY = 0.2  # seconds

# PyTorch keeps the last 1,024 descriptions of products for each thread, and oneDNN as many compiled kernels for all; each
# takes 250 kB, and is made in no time. Shapes that are rare would fill them over hours.
_CACHES, _CACHED = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"), "16"


def embed(experiment: Experiment, runtime: Runtime, rebuild: bool = False) -> dict[str, Path]:
    """Writes the store of each content that an encoder makes, or adds to it what is new in the catalog.

    Each distinct text, or other input of an encoder, is encoded once. Memory does not grow with the catalog.
    A job that was stopped goes on where it was, on any number of ranks; the bytes of the store do not depend on either.

    Args:
        experiment: the experiment.
        runtime: the ranks; shards are dealt to them.
        rebuild: makes the stores anew, for another encoder or template, or to drop vectors no one uses any more.

    Returns:
        `Stored.name` of each content -> folder of its store.

    Raises:
        UserError: a catalog, template or encoder is unusable, a store holds vectors of another kind, or the disk is full.
    """
    for cache in _CACHES:
        os.environ.setdefault(cache, _CACHED)
    prometheus.label(command="embed", experiment=experiment.name)
    contents = experiment.stored()
    if not contents:
        return {}
    uri, store = experiment.text.store, mirrored(experiment.text.store, "work")
    if is_uri(uri):
        experiment = experiment.model_copy(update={"text": experiment.text.model_copy(update={"store": str(store)})})
    runtime.on_main(lambda: check_store_place(uri, "Embed", runtime))
    encoders: dict[str, ContentEncoder] = {}
    folders = {}
    for of, content in contents.items():
        runtime.on_main(lambda of=of: begin_from_published(store_folder(experiment, of)))
        precision = runtime.on_main(lambda of=of: precision_of(experiment, of, rebuild))
        settings = experiment.encoder_of(content)
        key = json.dumps([settings.asked(), precision])
        if key not in encoders:
            with Progress("loading the encoder", main=runtime.is_main):
                encoders[key] = ENCODERS[settings.vectors](settings, precision)
        inputs = CatalogInputs.of_experiment(experiment, of)
        folders[of.name] = _embed_content(experiment, inputs, encoders[key], runtime, rebuild)
    return folders


def _embed_content(
    experiment: Experiment, inputs: CatalogInputs, encoder: ContentEncoder, runtime: Runtime, rebuild: bool
) -> Path:
    of = inputs.of
    folder = store_folder(experiment, of)
    runtime.on_main(lambda: make_store(folder.parent))
    with Progress(f"{of}: reading the catalog", main=runtime.is_main):
        plan = runtime.on_main(lambda: make_plan(experiment, inputs, encoder, rebuild))
        give_back_memory()
    if plan.todo:
        started = time.perf_counter()
        with threads_kept():
            _encode(plan, inputs, encoder, runtime)
            _wait_for_all(plan, inputs, runtime)
        rows, seconds = sum(shard.rows for shard in plan.todo), time.perf_counter() - started
        if runtime.is_main:
            plural = inputs.content.plural
            said = f"{of}: embedded {rows:,} distinct {plural}, {rows / seconds:,.0f} {plural}/s"
            fields = {plural: rows, f"{plural}_per_s": rows / seconds}
            info(said, "embedded", entity=of.entity, content=of.content, **fields)
    runtime.barrier()
    told = runtime.on_main(lambda: finish(plan, experiment, inputs, encoder))
    for line in told if runtime.is_main else ():
        info(shown(f"{of}: {line}"), "store", entity=of.entity, content=of.content)
    runtime.on_main(lambda: publish_store(folder, rebuild))
    return folder


def _encode(
    plan: Plan,
    inputs: CatalogInputs,
    encoder: ContentEncoder,
    runtime: Runtime,
) -> None:
    """Encodes and writes this rank's shards, each worker a whole one on one thread.

    One tokenises or writes while another computes, none waits for the others at every layer, and the bits are the same
    for any number of workers.
    """
    mine = plan.todo[runtime.rank :: runtime.world_size]
    project = plan.projection()

    def work(shard: Shard, wanted: np.ndarray, texts: list[str]) -> None:
        torch.set_num_threads(1)
        digests = shard_digests(plan.folder, shard)
        encoded = encoder.encode(inputs.content.taken(texts, digests[wanted]), plan.prompt)
        halves = np.zeros((shard.rows, plan.dimension), np.float16)  # zeros: no catalog has that text any more
        halves[wanted] = as_halves(project(encoded.vectors), f"{inputs.settings_at}.encoder: {plan.encoder}")
        bad = {int(wanted[at]): reason for at, reason in encoded.bad.items()}
        halves[list(bad)] = 0
        write_shard(plan.folder, shard, halves, digests, encoded.cut, bad)
        give_back_memory()

    workers = _workers()
    pending: deque[Future[None]] = deque()
    total = sum(shard.rows for shard in plan.todo)
    progress = Progress(f"{inputs.of}: embedding", inputs.content.plural, total, "embedding", runtime.is_main)
    with progress, ThreadPoolExecutor(workers) as pool:
        shown = time.perf_counter()

        def show() -> None:
            if runtime.is_main:
                progress.done = sum(shard.rows for shard in noted(plan.folder, plan.todo))

        try:
            for piece in _shard_texts(inputs, plan, mine):
                pending.append(pool.submit(work, *piece))
                if len(pending) > workers:
                    pending.popleft().result()
                if time.perf_counter() - shown > _SHOW_EVERY:  # counting all ranks' notes takes a while, too
                    show()
                    shown = time.perf_counter()
            while pending:
                pending.popleft().result()
                show()
        finally:
            pool.shutdown(cancel_futures=True)


def _shard_texts(
    inputs: CatalogInputs, plan: Plan, shards: list[Shard]
) -> Iterator[tuple[Shard, np.ndarray, list[str]]]:
    """Each shard, which of its rows have a text in the catalog, and those texts; the catalog is read once, in order."""
    for group in _groups(shards):
        give_back_memory()
        places = np.concatenate([shard_positions(plan.folder, shard) for shard in group])
        in_order = np.argsort(places, kind="stable")
        in_order = in_order[places[in_order] >= 0]
        texts = np.empty(len(places), object)
        texts[in_order] = list(inputs.read(places[in_order]))
        end = 0
        for shard in group:
            start, end = end, end + shard.rows
            wanted = np.flatnonzero(places[start:end] >= 0)
            yield shard, wanted, texts[start:end][wanted].tolist()


def _groups(shards: list[Shard]) -> Iterator[list[Shard]]:
    """Consecutive shards whose texts are read together."""
    group: list[Shard] = []
    for shard in shards:
        if group and sum(s.rows for s in group) + shard.rows > _READ_TOGETHER:
            yield group
            group = []
        group.append(shard)
    if group:
        yield group


def _wait_for_all(plan: Plan, inputs: CatalogInputs, runtime: Runtime) -> None:
    """Until every rank has written its shards: a collective would give up on a slow one after its timeout."""
    total = sum(shard.rows for shard in plan.todo)
    with Progress(
        f"{inputs.of}: waiting for other ranks", inputs.content.plural, total, main=runtime.is_main
    ) as progress:
        while (done := sum(shard.rows for shard in noted(plan.folder, plan.todo))) < total:
            progress.done = done
            time.sleep(0.2)


def _workers() -> int:
    """Threads that encode. Two on a GPU: one prepares while the other's kernels run."""
    return 2 if torch.cuda.is_available() else max(1, min(_MOST_WORKERS, torch.get_num_threads()))
