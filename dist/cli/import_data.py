"""``foundrank import``: a command for each data set, with the options that it takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from ...data.plain_logs.interactions import Columns, import_interactions
from ...data.plain_logs.item_catalog import Catalog
from ...data.plain_logs.sequences import USER, import_sequences
from ...data.sources.importers import HOLDING_OUT, IMPORTERS
from ..lease.lease import Claim
from ..ranks.job import held
from .commands.options import LOCAL, Seed

import_data = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Source = Annotated[Path, typer.Argument(help="folder with the data set's Parquet files", **LOCAL)]
Log = Annotated[Path, typer.Argument(help="a file, or a folder of files of one kind", **LOCAL)]
Out = Annotated[Path, typer.Argument(help="new folder for events, catalogs and experiment.yaml", **LOCAL)]
Unseen = Annotated[
    float,
    typer.Option(
        min=0, max=0.99, help="share of the items that training never sees, drawn by --seed; test asks for them"
    ),
]
Length = Annotated[int, typer.Option(min=1, help="past items of a row, the newest ones")]
Described = Annotated[Path | None, typer.Option("--catalog", help="CSV or Parquet with one row per item", **LOCAL)]
Key = Annotated[str | None, typer.Option(help="the catalog's column of item ids  [default: that of the events]")]
Text = Annotated[
    str | None,
    typer.Option(
        help="template of an item's text, e.g. '{brand} {title}'  [default: brand, title, name and such as it has]"
    ),
]


@import_data.callback()
def _about() -> None:
    """Turn a public data set, or plain logs, into events per domain, catalogs and a ready experiment.yaml."""


_Made = TypeVar("_Made")


def _alone(importer: Callable[..., _Made], source: Path, out: Path, *arguments: object, **settings: object) -> _Made:
    """What an importer gives, while no other job has the folder."""
    with held(Claim(out, "import")):
        return importer(source, out, *arguments, **settings)


def _add(name: str) -> None:
    importer = IMPORTERS[name]

    def plainly(source: Source, out: Out, seed: Seed = 2026) -> None:
        _tell(_alone(importer, source, out, seed))

    def holding_out(source: Source, out: Out, seed: Seed = 2026, unseen_items: Unseen = 0.0) -> None:
        _tell(_alone(HOLDING_OUT[name], source, out, seed, unseen_items))

    told = (importer.__doc__ or "").partition("\n")[0]
    import_data.command(name, help=told)(holding_out if name in HOLDING_OUT else plainly)


for _name in IMPORTERS:
    _add(_name)


@import_data.command()
def sequences(
    source: Log,
    out: Out,
    seed: Seed = 2026,
    items: Annotated[str, typer.Option(help="Parquet: the column of lists of items")] = "items",
    user: Annotated[str, typer.Option(help="Parquet: the column of users")] = USER,
    no_user: Annotated[
        bool, typer.Option("--no-user", help="lines and rows hold items alone; users are numbered")
    ] = False,
    max_length: Length = 50,
    unseen_items: Unseen = 0.0,
    catalog: Described = None,
    catalog_key: Key = None,
    text: Text = None,
) -> None:
    """One sequence per user, oldest first: which item comes next? Text (a user, then items), CSV without a header, or Parquet."""
    described = _catalog(catalog, catalog_key, text)
    found = _alone(
        import_sequences,
        source,
        out,
        seed,
        items=items,
        users=None if no_user else user,
        max_length=max_length,
        unseen_items=unseen_items,
        catalog=described,
    )
    _tell(found.path, found.told, described is not None)


@import_data.command()
def interactions(
    source: Log,
    out: Out,
    seed: Seed = 2026,
    user: Annotated[str, typer.Option(help="the column of users")] = "user_id",
    item: Annotated[str, typer.Option(help="the column of items")] = "item_id",
    time: Annotated[str, typer.Option(help="the column of times: timestamps, ISO 8601 or numbers")] = "timestamp",
    label: Annotated[str | None, typer.Option(help="a column of 0 and 1 to learn, in place of the next item")] = None,
    rating: Annotated[
        str | None, typer.Option(help="a column of ratings to make a label of, with --liked-from")
    ] = None,
    liked_from: Annotated[float | None, typer.Option(help="the lowest rating that is liked")] = None,
    split: Annotated[
        Literal["temporal", "leave-one-out"],
        typer.Option(help="by time, 80, 10 and 10 % of the rows; or each user's last two held out"),
    ] = "temporal",
    max_length: Annotated[
        int | None,
        typer.Option(min=1, help="past items of a row, the newest ones  [default: 50; with labels 30]"),
    ] = None,
    unseen_items: Unseen = 0.0,
    catalog: Described = None,
    catalog_key: Key = None,
    text: Text = None,
) -> None:
    """One row per user, item and time, CSV with a header or Parquet: which item comes next, or with a label, who likes what?"""
    described = _catalog(catalog, catalog_key, text)
    found = _alone(
        import_interactions,
        source,
        out,
        seed,
        columns=Columns(user, item, time, label, rating, liked_from),
        split=split,
        max_length=max_length,
        unseen_items=unseen_items,
        catalog=described,
    )
    _tell(found.path, found.told, described is not None)


def _catalog(path: Path | None, key: str | None, text: str | None) -> Catalog | None:
    if path is None and (key is not None or text is not None):
        raise typer.BadParameter("needs --catalog", param_hint="--text" if key is None else "--catalog-key")
    return None if path is None else Catalog(path, key, text)


def _tell(path: Path, told: tuple[str, ...] = (), has_texts: bool = True) -> None:
    print(*told, f"wrote {path}", f"next: foundrank {'embed' if has_texts else 'train'} {path}", sep="\n")
