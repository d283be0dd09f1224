"""What has been counted so far, on a disk: a counting that was interrupted goes on, and memory does not grow with the rows."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ..events.bad_rows import Skipped
from ..storage.local_writes import replaced
from .list_marks import ListCounter
from .shares import Ranks
from .tally import ShareNumbers, Tally

EVERY = 30.0
"""Seconds of counting that a piece holds, and that are lost at most."""
_NUMBERS, _LIST = "numbers", "list {} {}"
_PIECE = "piece-*.npz"


@dataclass
class Piece:
    """What some shares say.

    Attributes:
        counts: embedding table -> what `KeyCounts.held` has of its ids.
        shares: number of a share -> what is added up of it.
    """

    counts: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    shares: dict[int, ShareNumbers] = field(default_factory=dict)

    @classmethod
    def of(cls, tally: Tally) -> "Piece":
        """What has been counted last."""
        return cls({name: counts.held() for name, counts in tally.counts.of_ids.items()}, tally.shares)


class Pieces:
    """The pieces of all ranks, each in a file."""

    def __init__(self, folder: Path | None, ranks: Ranks):
        """Finds those that an interrupted counting has left. A collective.

        Args:
            folder: of pieces of the same data; None to keep none.
            ranks: all of them, whose number may have been another then; where they see different folders, each its own.
        """
        self._folder, self._rank = folder, ranks.rank
        self.mine: list[Path] = []
        self.done: set[int] = set()
        """Numbers of the shares that pieces hold, whoever has them."""
        there = [] if folder is None else sorted(path.name for path in folder.glob(_PIECE))
        of_ranks = [set(names) for names in ranks.gather_all(there)]
        reads: dict[str, int] = {}  # each by one of the ranks that see it, and about as many by each
        for name in sorted(set().union(*of_ranks)):
            seen_by = [rank for rank, names in enumerate(of_ranks) if name in names]
            reads[name] = min(seen_by, key=[*reads.values()].count)
        mine = (
            {}
            if folder is None
            else {name: _shares_in(folder / name) for name, rank in reads.items() if rank == ranks.rank}
        )
        for rank, shares_of in enumerate(ranks.gather_all(mine)):
            for name, shares in shares_of.items():
                if shares and self.done.isdisjoint(
                    shares
                ):  # else it is damaged, or another host has counted them as well
                    self.done.update(shares)
                    self.mine += [folder / name] if rank == ranks.rank and folder is not None else []
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to write one."""
        return self._folder is not None and time.monotonic() > self._written + EVERY

    def write(self, tally: Tally) -> None:
        """Writes what has been counted since the last one, whole or not at all."""
        assert self._folder is not None
        path = self._folder / f"piece-{min(tally.shares):09}-{self._rank}.npz"
        with replaced(path) as stream:
            np.savez(stream, **_arrays(Piece.of(tally)))
        self.mine.append(path)
        self._written = time.monotonic()


def read_piece(path: Path) -> Piece:
    """What `Pieces.write` wrote."""
    with np.load(path, allow_pickle=False) as file:
        numbers = json.loads(file[_NUMBERS].tobytes())
        shares = {int(number): _share(plain, int(number), file) for number, plain in numbers["shares"].items()}
        return Piece({name: (file[f"{name} keys"], file[f"{name} counts"]) for name in numbers["tables"]}, shares)


def _shares_in(path: Path) -> list[int]:
    """Numbers of the shares that a piece holds; none of one that is damaged."""
    try:
        return sorted(read_piece(path).shares)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return []


def _arrays(piece: Piece) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name, (keys, counts) in piece.counts.items():
        arrays |= {f"{name} keys": keys, f"{name} counts": counts}
    plain: dict[str, Any] = {}
    for number, share in piece.shares.items():
        plain[str(number)] = _plain(share)
        if share.lists is not None:
            plain[str(number)]["lists"], of_lists = share.lists.parts()
            arrays |= {_LIST.format(number, name): array for name, array in of_lists.items()}
    numbers = json.dumps({"tables": [*piece.counts], "shares": plain})
    return arrays | {_NUMBERS: np.frombuffer(numbers.encode(), np.uint8)}


def _plain(share: ShareNumbers) -> dict[str, Any]:
    moments = {name: values.tolist() for name, values in share.moments.items()}
    scaled = {name: values.tolist() for name, values in share.scaled.items()}
    known = {"domain": share.domain, "labels": share.labels, "outcomes": share.outcomes}
    return known | {"moments": moments, "scaled": scaled, "skipped": asdict(share.skipped), "newest": share.newest}


def _share(plain: dict[str, Any], number: int, file: Any) -> ShareNumbers:
    moments, scaled = ({k: np.array(v) for k, v in plain.pop(name).items()} for name in ("moments", "scaled"))
    skipped, lists = Skipped(**plain.pop("skipped")), plain.pop("lists", None)
    if lists is not None:
        arrays = {name: file[_LIST.format(number, name)] for name in ("begins", "keys", "rows", "ends")}
        lists = ListCounter.of_parts(lists, arrays)
    return ShareNumbers(**plain, moments=moments, scaled=scaled, skipped=skipped, lists=lists)
