"""Ranking by codes: over all items at once, or along the likeliest codes."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ...model.codes.any_order import AnyOrderDecoder
from ...model.codes.autoregressive import AutoregressiveDecoder
from ...model.codes.beam import AT_FIRST, beam_search
from ...model.codes.next_codes import NextCodes
from ...model.codes.parallel import ParallelDecoder, summed
from ...model.codes.paths import Paths
from ...model.codes.trie import Trie
from ...model.foundation.foundation import dense_part
from .products import NEVER, in_order
from .protocol import PLACES
from .rankings import Gone, Placed, Ranking, Scored, among_drawn
from .search import CELLS, Search, nothing

_USERS = 64  # whose beams are followed at a time, at most


def decoder_of(model: nn.Module) -> nn.Module:
    """What predicts codes in a model, sharded or not."""
    history = dense_part(model).history
    assert history is not None
    assert isinstance(history.objective, NextCodes)
    return history.objective.decoder


def ranking_by_codes(decoder: nn.Module, codes: Tensor, unknown: Tensor) -> Ranking:
    """How users rank items, by a decoder and the items' codes ``[C, M]`` int16; ``unknown [C]`` bool have none."""
    if isinstance(decoder, ParallelDecoder):
        return Scored(unknown, partial(CodeSums, places_of(codes, decoder.sizes)))
    assert isinstance(decoder, AutoregressiveDecoder | AnyOrderDecoder)
    return Beams(decoder, codes, unknown)


def places_of(codes: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """``[M, C]`` int32: where the codes ``[C, M]`` int16 of items stand among all values of all levels."""
    starts = torch.tensor([0, *sizes[:-1]], device=codes.device).cumsum(0)
    return codes.T.int() + starts.int()[:, None]


class CodeSums:
    """The scores of all items as sums over levels, exact; methods as of `Products`."""

    shared = 0

    def __init__(self, places: Tensor, hidden: Tensor):
        """Args: as of `places_of`, and ``[C]`` bool, items that score minus infinity."""
        self.places, self.hidden = places, hidden

    def __len__(self) -> int:
        return len(self.hidden)

    def of_shared(self, users: Tensor) -> Tensor:
        """``[B, 0]``: sums need no help to be alike."""
        return users[:, :0]

    def of(self, users: Tensor, of_shared: Tensor, part: slice = slice(None)) -> Tensor:
        """``[B, items of the part]``."""
        return summed(users, self.places[:, part]).masked_fill_(self.hidden[part], NEVER)

    def pairs(self, users: Tensor, at: Tensor) -> Tensor:
        """``[B, K]``, by the same sums."""
        scores = users.gather(1, self.places[0][at].long())
        for of_level in self.places[1:]:
            scores += users.gather(1, of_level[at].long())
        return scores


class Beams:
    """The best items by a search along the likeliest codes; what it does not reach ranks behind all."""

    def __init__(self, decoder: AutoregressiveDecoder | AnyOrderDecoder, codes: Tensor, unknown: Tensor):
        """Args: the decoder, codes ``[C, M]`` int16, and ``[C]`` bool, items without any."""
        self.decoder, self.codes, self.unknown = decoder, codes, unknown
        self._searched: tuple[Tensor, BeamSearch] | None = None

    def pairs(self, users: Tensor, at: Tensor) -> Tensor:
        """As of `Ranking`: exact, given the codes."""
        out, size = torch.empty(at.shape, device=users.device), max(1, CELLS // (1 << 12))
        of_user, every = torch.arange(at.numel(), device=at.device) // at.shape[1], at.flatten()
        with torch.no_grad():
            for start in range(0, len(every), size):
                part = slice(start, start + size)
                out.view(-1)[part] = self.decoder.scores(users[of_user[part]], self.codes[every[part]].long())
        return out.masked_fill(self.unknown[at], NEVER)

    def ranks(self, users: Tensor, target: Tensor, gone: Gone, barred: Tensor | None, drawn: Tensor | None) -> Tensor:
        """As of `Ranking`; an item that the beam does not reach ranks last."""
        if drawn is None:
            return self.placed(users, target, gone, barred, 0).ranks
        own, found = self._own(users, target), self._known(target)
        return among_drawn(own, found, self.pairs(users, drawn.clamp_min(0).to(users.device)).cpu(), drawn)

    def placed(self, users: Tensor, target: Tensor, gone: Gone, barred: Tensor | None, n: int) -> Placed:
        """As of `Ranking`; beams are as wide as n items need."""
        own, found = torch.zeros(len(users), 1), self._known(target)
        if barred is not None:
            own = self._own(users, target)
        hidden = self.unknown.cpu() if barred is None or not len(barred) else self.unknown.cpu() | barred[0]
        assert barred is None or bool((barred == barred[:1]).all())  # a search has the same items for all users
        others = gone[1] != target[gone[0]]  # what is past may be the next one, and is found then
        gone = gone[0][others], gone[1][others]
        places = max(self.decoder.beam, PLACES, n + 1)  # a beam of fewer would not tell them apart
        search = self._search(hidden)
        scores, at = search.best(users, places, gone, enough=max(PLACES, n))
        mine = (at == target[:, None]) & (scores > NEVER)  # places that hold none say 0
        # What has the same codes scores alike, and is ahead.
        reached = scores.masked_fill(~mine, NEVER).amax(1, keepdim=True) if at.shape[1] else own
        ranks = torch.where(mine.any(1), (scores >= reached).sum(1) - 1, len(self.codes))
        if barred is not None:  # an item that takes no part but as the row's own has its own score to be ranked by
            aside = hidden[target.clamp_min(0)]
            ranks = torch.where(aside, (scores >= own).sum(1), ranks)
            # What is behind all that were found may be behind any number of others, unless these are all there are.
            many = (scores > NEVER).sum(1)
            ranks = torch.where(
                aside & (ranks >= many) & (many < search.left(len(users), gone)), len(self.codes), ranks
            )
        others, at = in_order(scores.masked_fill(mine, NEVER), at)
        own, ranks = torch.where(mine.any(1), reached[:, 0], own[:, 0]), torch.where(found, ranks, len(self.codes))
        return Placed(ranks, own.masked_fill(ranks == len(self.codes), NEVER), others[:, :n], at[:, :n])

    def _known(self, target: Tensor) -> Tensor:
        return (target >= 0) & ~self.unknown.cpu()[target.clamp_min(0)]

    def _own(self, users: Tensor, target: Tensor) -> Tensor:
        """``[B, 1]`` scores of the rows' own items."""
        return self.pairs(users, target.clamp_min(0)[:, None].to(users.device)).cpu()

    def search(self, hidden: Tensor) -> Search:
        """As of `Ranking`."""
        return BeamSearch(self.decoder, self.codes, hidden)

    def _search(self, hidden: Tensor) -> "BeamSearch":
        """That of the last batch, as long as the same items are hidden."""
        if self._searched is None or not torch.equal(self._searched[0], hidden):
            self._searched = hidden, BeamSearch(self.decoder, self.codes, hidden)
        return self._searched[1]


class BeamSearch:
    """Finds as many items as are asked for, as long as there are so many: a user whose beams end in too few gets wider ones."""

    def __init__(self, decoder: AutoregressiveDecoder | AnyOrderDecoder, codes: Tensor, hidden: Tensor):
        """Args: the decoder, codes ``[C, M]`` int16, and ``[C]`` bool, items that are never found."""
        positions = (~hidden).nonzero()[:, 0].cpu().numpy()
        self._decoder, self._items = decoder, len(codes)
        self._trie = Trie.of(codes.cpu().numpy()[positions], decoder.sizes, positions, codes.device)
        self._follow = Paths(decoder, self._trie) if isinstance(decoder, AnyOrderDecoder) else self._along

    def best(self, users: Tensor, k: int, gone: Gone, enough: int | None = None) -> tuple[Tensor, Tensor]:
        """As of `Search`. Beams get wider for a user who has not found ``enough``, k where that is None; there may be more."""
        many = len(self._trie.items)
        if not len(users) or not many:
            return nothing(len(users))
        left_out = self._left_out(gone)
        wanted = self._left(len(users), left_out).clamp_max(k if enough is None else min(k, enough))
        out = torch.full((len(users), min(k, many)), NEVER), torch.zeros(len(users), min(k, many), dtype=torch.int64)
        left, beams = torch.arange(len(users)), max(self._decoder.beam, k)
        while len(left):
            at_once = max(1, min(_USERS, CELLS // (AT_FIRST * beams * max(self._trie.sizes))))
            for start in range(0, len(left), at_once):
                some = left[start : start + at_once]
                self._some(users, some, beams, k, torch.from_numpy(left_out), out)
            done = (out[0][left] > NEVER).sum(1) >= wanted[left]
            left = left[~done] if beams < self._trie.leaves else left[:0]
            beams *= 4
        return out

    def left(self, users: int, gone: Gone) -> Tensor:
        """``[users]`` int64: how many items there are for each, without those that are gone."""
        return self._left(users, self._left_out(gone))

    def _left(self, users: int, left_out: np.ndarray) -> Tensor:
        mine = np.isin(left_out % self._items, self._trie.items.cpu().numpy())
        return len(self._trie.items) - torch.from_numpy(np.bincount(left_out[mine] // self._items, minlength=users))

    def _left_out(self, gone: Gone) -> np.ndarray:
        """Pairs of user and item, each once, as one number."""
        return np.unique(gone[0].numpy() * self._items + gone[1].numpy())

    def _along(self, states: Tensor, beams: int) -> tuple[Tensor, Tensor]:
        """As of `beam_search`."""
        assert isinstance(self._decoder, AutoregressiveDecoder)
        return beam_search(self._decoder, states, self._trie, beams)

    def _some(
        self, users: Tensor, some: Tensor, beams: int, k: int, left_out: Tensor, out: tuple[Tensor, Tensor]
    ) -> None:
        """Puts what some users find in place."""
        with torch.no_grad():
            scores, leaves = self._follow(users[some.to(users.device)], beams)
        there = (scores > NEVER).flatten()
        most = k + int(torch.bincount(left_out // self._items, minlength=1).max()) if len(left_out) else k
        at_beam, items = (of.cpu() for of in self._trie.items_of(leaves.flatten()[there], most))
        beam = there.cpu().nonzero()[:, 0][at_beam]
        row = beam // scores.shape[1]
        fine = ~torch.isin(some[row] * self._items + items, left_out)
        row, items, beam = row[fine], items[fine], beam[fine]
        many = torch.bincount(row, minlength=len(some))
        place = torch.arange(len(row)) - (many.cumsum(0) - many)[row]
        kept = place < out[0].shape[1]
        out[0][some[row[kept]], place[kept]] = scores.flatten().cpu()[beam[kept]]
        out[1][some[row[kept]], place[kept]] = items[kept]
