"""Among which items the next one is sought: past ones or not, one domain's alone, all of them or a sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...data.config.experiment import Experiment
from ...data.errors import UserError, nearest

NEXT_ITEM = "next_item"
"""What finding the next item is called, where tasks have their names."""


@dataclass(frozen=True)
class Protocol:
    """What a user may ask; numbers of two protocols are not to be compared.

    Attributes:
        repeat: whether past items take part; None: where ``model.next_item.repeat`` says so.
        negatives: how many items each row's own is ranked among, drawn at random; 0: all.
        domain: whose items alone take part, those of its training events; None: all there are, or those of each row's domain in a run that was
            trained so.
        width: how many of the leading numbers of users' and items' vectors are used, one of ``model.next_item.widths``, or all; None: all.
    """

    repeat: bool | None = None
    negatives: int = 0
    domain: str | None = None
    width: int | None = None

    def repeats(self, experiment: Experiment) -> bool:
        """Whether past items take part, in a run of this experiment."""
        objective = experiment.model.next_item
        return self.repeat if self.repeat is not None else objective is not None and objective.repeat

    def within_domains(self, experiment: Experiment) -> bool:
        """Whether the items of each row's own domain take part: in a run that was trained among these, unless a domain is named."""
        objective = experiment.model.next_item
        return self.domain is None and objective is not None and objective.candidates == "domain"

    def told(self, experiment: Experiment) -> dict[str, Any]:
        """As documents have it, with nothing left open."""
        told = {"repeat": self.repeats(experiment), "negatives": self.negatives or None, "domain": self.domain}
        told |= {} if self.width is None else {"width": self.width}
        return told | ({"within_domains": True} if self.within_domains(experiment) else {})

    def check(self, experiment: Experiment, run: object) -> None:
        """Makes sure that it means something for a run.

        Raises:
            UserError: no such domain, or one without users; the run seeks no next item.
        """
        if self.domain is not None and self.domain not in experiment.domains:
            raise UserError(
                "--domain", f"'{self.domain}' is not a domain of this run", nearest(self.domain, experiment.domains)
            )
        for option, given in (("--repeat", self.repeat is not None), ("--negatives", self.negatives > 0)):
            if given and experiment.model.next_item is None:
                what = f"means nothing for {run}, which was not trained to predict the next item"
                raise UserError(option, what, "Leave it out, or train with model.next_item.")
        if self.width is not None:
            self._check_width(experiment, run)

    def _check_width(self, experiment: Experiment, run: object) -> None:
        model = experiment.model
        if model.next_item is None or model.target is not None:
            raise UserError("--width", f"means nothing for {run}, which finds no items by vectors", "Leave it out.")
        if self.width not in (widths := model.next_item.widths or (model.width,)):
            what = f"is {self.width}, and {run} was trained to be used with {', '.join(map(str, widths))}"
            raise UserError(
                "--width", what, "Name one of these, or leave it out; model.next_item.widths says them to a training."
            )


def items_in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Among how many items the next one was sought in some rows of an evaluation; domains may differ in it."""
    least, most = (of(row["items"] for row in rows) for of in (min, max))
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def told_in_words(told: Mapping[str, Any]) -> str:
    """What `Protocol.told` says, in a few words."""
    among = "all items" if told["negatives"] is None else f"{told['negatives']:,} items drawn at random and its own"
    of = "" if told["domain"] is None else f" of {told['domain']}"
    if told.get("within_domains"):
        of = " of each row's own domain"
    by = "" if told.get("width") is None else f", by {told['width']} numbers of their vectors"
    return f"{among}{of}, past ones {'included' if told['repeat'] else 'left out'}{by}"
