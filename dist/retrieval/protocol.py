"""Among which items the next one is sought: past ones or not, one domain's alone, all of them or a sample."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...data.config.experiment import Experiment
from ...data.errors import UserError, nearest
from .slate import Slate

NEXT_ITEM = "next_item"
"""What finding the next item is called, where tasks have their names."""
PLACES = 20
"""Up to so many places ranks are told apart, and slates are made where they are measured."""


@dataclass(frozen=True)
class Protocol:
    """What a user may ask; numbers of two protocols are not to be compared.

    Attributes:
        repeat: whether past items take part; None: where ``model.next_item.repeat`` says so.
        negatives: how many items each row's own is ranked among, drawn at random; 0: all.
        domain: whose items alone take part, those of its training events; None: all there are, or those of each row's domain in a run that was
            trained so.
        width: how many of the leading numbers of users' and items' vectors are used, one of ``model.next_item.widths``, or all; None: all.
        slate: how the best items are put into a list; None: by their scores.
        alike: content of items that says how alike two of them are; None: what the run looks for items by.
    """

    repeat: bool | None = None
    negatives: int = 0
    domain: str | None = None
    width: int | None = None
    slate: Slate | None = None
    alike: str | None = None

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
        told |= {"within_domains": True} if self.within_domains(experiment) else {}
        told |= {} if self.slate is None else {"slate": asdict(self.slate)}
        return told | ({} if self.alike is None else {"alike": self.alike})

    def check(self, experiment: Experiment, run: object) -> None:
        """Makes sure that it means something for a run.

        Raises:
            UserError: no such domain, or one without users; the run seeks no next item; no such content; a slate of items drawn at random.
        """
        if self.domain is not None and self.domain not in experiment.domains:
            raise UserError(
                "--domain", f"'{self.domain}' is not a domain of this run", nearest(self.domain, experiment.domains)
            )
        of_next_item = {
            "--repeat": self.repeat is not None,
            "--negatives": self.negatives > 0,
            "--diversity": self.slate is not None,
            "--alike-by": self.alike is not None,
        }
        for option, given in of_next_item.items():
            if given and experiment.model.next_item is None:
                what = f"means nothing for {run}, which was not trained to predict the next item"
                raise UserError(option, what, "Leave it out, or train with model.next_item.")
        if self.width is not None:
            self._check_width(experiment, run)
        if self.slate is not None and self.negatives:
            what = "puts the best of all items into lists, and --negatives ranks among a few drawn at random"
            raise UserError("--diversity", what, "Leave one of the two out.")
        if self.alike is not None and self.negatives:
            raise UserError("--alike-by", "is of lists, and --negatives makes none", "Leave one of the two out.")
        if self.alike is not None and self.alike not in (named := _contents(experiment)):
            what = f"'{self.alike}' is no content of items whose vectors or codes {run} reads"
            remedy = (
                nearest(self.alike, named) if named else "Leave it out: items are compared by the run's own vectors."
            )
            raise UserError("--alike-by", what, remedy)

    def _check_width(self, experiment: Experiment, run: object) -> None:
        model = experiment.model
        if model.next_item is None or model.target is not None:
            raise UserError("--width", f"means nothing for {run}, which finds no items by vectors", "Leave it out.")
        if self.width not in (widths := model.next_item.widths or (model.width,)):
            what = f"is {self.width}, and {run} was trained to be used with {', '.join(map(str, widths))}"
            raise UserError(
                "--width", what, "Name one of these, or leave it out; model.next_item.widths says them to a training."
            )


def _contents(experiment: Experiment) -> list[str]:
    """The contents of items that a run reads and that do not come with the events."""
    return [*experiment.compared(), *(of.content for of in experiment.coded())]


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
    words = f"{among}{of}, past ones {'included' if told['repeat'] else 'left out'}"
    words += "" if told.get("width") is None else f", by {told['width']} numbers of their vectors"
    if (slate := told.get("slate")) is not None:
        words += f", lists by {slate['method']} of weight {slate['weight']:g} from the best {slate['pool']:,}"
    return words if told.get("alike") is None else f"{words}, alike by {told['alike']}"
