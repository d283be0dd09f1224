"""The simulated feed with days: who is shown is alive, tastes move and break, and a longer one begins like a shorter one."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.simulation.platform_texts import TOPICS
from foundrank.data.simulation.worlds import simulate
from foundrank.dist.cli.app import app
from foundrank.model.kinds import KINDS

DAYS, ROWS_OF_DAY, BREAK = 32, 2_500, 22


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("world") / "a", DAYS * ROWS_OF_DAY, 7, "days", DAYS).parent


def catalog(folder, name: str) -> pd.DataFrame:
    return pq.read_table(folder / "catalogs" / f"{name}.parquet").to_pandas()


@pytest.fixture(scope="module")
def events(folder) -> pd.DataFrame:
    """All events, with the day that their folder has in its name."""
    table = pq.read_table(folder / "events" / "feed").to_pandas()
    return table.assign(day=pd.to_datetime(table["day"].astype(str)).dt.date)


@pytest.fixture(scope="module")
def told(folder) -> pd.DataFrame:
    return pq.read_table(folder / "days.parquet").to_pandas()


@pytest.mark.parametrize("days", [4, 5, 6, DAYS])
def test_its_experiment_fits_its_files_and_ends_before_the_break(tmp_path, days: int):
    folder = simulate(tmp_path / "a", days * 2_500, world="days", days=days).parent
    files = check_events(load_experiment(folder / "experiment.yaml", kinds=KINDS))["feed"]
    used = [path.split("day=")[1][:10] for split in ("train", "validation", "test") for path in files[split].files]
    told = pq.read_table(folder / "days.parquet").to_pandas()
    assert used == [str(day) for day in told["day"][: len(used)]]
    assert len(files["train"].files) == min((days - 1) // 2, 9)
    assert len(files["validation"].files) == len(files["test"].files) == 1
    assert told.index[told["break"]].tolist() == [int(np.ceil(2 * days / 3))]
    assert len(used) <= told.index[told["break"]][0]


@pytest.mark.parametrize("entity", ["user", "item"])
def test_nobody_is_there_before_birth_or_after_the_last_day(folder, events, entity: str):
    shown = events.merge(catalog(folder, f"{entity}s"), on=entity, how="left")
    assert shown["born"].notna().all()
    assert (shown["born"] <= shown["day"]).all()
    assert (shown["day"] <= shown["last_day"]).all()
    assert (shown["time"].dt.date == shown["day"]).all()
    assert (shown["date"] == shown["day"].astype(str)).all()
    last = shown.groupby("day")["born"].max()
    assert (last >= last.index - timedelta(days=3)).all()  # those who have just come are there, too


@pytest.mark.parametrize("entity", ["user", "item"])
def test_its_days_are_told_as_they_were(folder, events, told, entity: str):
    lives = catalog(folder, f"{entity}s")
    gone = told["died_items" if entity == "item" else "left_users"]
    live, new = told[f"live_{entity}s"], told[f"new_{entity}s"]
    assert live.tolist() == [((lives["born"] <= day) & (lives["last_day"] >= day)).sum() for day in told["day"]]
    assert new.tolist() == [(lives["born"] == day).sum() for day in told["day"]]
    assert (new > 0).all()
    assert gone.sum() > 0
    assert np.array_equal(live.diff()[1:], (new - gone)[1:])
    assert told["events"].tolist() == [ROWS_OF_DAY] * DAYS
    np.testing.assert_allclose(told["mean_p_click"], events.groupby("day")["p_click"].mean())


def test_what_is_shown_is_skewed_and_grows_old(folder, events):
    shown = events.merge(catalog(folder, "items"), on="item")
    age = np.array([(day - born).days for day, born in zip(shown["day"], shown["born"], strict=True)])
    new = pd.Series(age <= 2).groupby(shown["day"]).mean()
    assert new.between(0.08, 0.7).all()
    often = shown.groupby(["day", "item"]).size().groupby("day").agg(["max", "median"])
    assert (often["max"] > 5 * often["median"]).all()
    begin = events["day"].min()
    known = [
        0 < (born - begin).days < DAYS - 10 and (last - born).days >= 10
        for born, last in zip(shown["born"], shown["last_day"], strict=True)
    ]
    of_age = np.bincount(age[known])  # of those whose first ten days can all be seen
    assert 0.3 < of_age[10] / of_age[0] < 0.8  # about half as often after ten days


def test_clicks_follow_their_probabilities_on_every_day(events):
    for _, some in [*events.groupby("day"), ("all", events)]:
        order = np.argsort(some["p_click"].to_numpy())
        for part in np.array_split(order, 4):  # not on the whole alone: a constant would do for that
            p, click = some["p_click"].to_numpy()[part], some["click"].to_numpy()[part]
            assert abs(click.mean() - p.mean()) < 4 * (p * (1 - p)).sum() ** 0.5 / len(part)


def alike(events: pd.DataFrame, days: range, later: int) -> float:
    """Correlation of what the same users think of the same items on some days and so many days later."""
    by_day = {n: day.drop_duplicates(["user", "item"]) for n, (_, day) in enumerate(events.groupby("day"))}
    both = pd.concat([by_day[n].merge(by_day[n + later], on=["user", "item"]) for n in days])
    p, q = both["p_click_x"], both["p_click_y"]
    return float(np.corrcoef(np.log(p / (1 - p)), np.log(q / (1 - q)))[0, 1])


def test_tastes_move_a_little_every_day_and_break_on_one(events):
    next_day = [alike(events, range(day, day + 1), 1) for day in range(DAYS - 1)]
    broken = next_day.pop(BREAK - 1)
    assert min(next_day) > 0.95
    assert max(next_day) < 0.999
    assert broken < 0.85
    far = [alike(events, range(BREAK - later), later) for later in (1, 5, 10, 20)]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 0.85


def test_tastes_stay_as_wide_as_they_are(events):
    wide = events["p_click"].map(lambda p: np.log(p / (1 - p))).groupby(events["day"]).std()
    assert wide.between(0.8, 1.6).all()


def test_titles_tell_what_the_category_does_not(folder):
    items = catalog(folder, "items")
    for title, category in zip(items["title"], items["category"], strict=True):
        about = [topic.department for topic in TOPICS if any(noun in title for noun in topic.nouns)]
        assert category in about
    assert len({topic.department for topic in TOPICS}) < len(TOPICS)


def test_same_seed_same_files(tmp_path, folder):
    again = simulate(tmp_path / "again", DAYS * ROWS_OF_DAY, 7, "days", DAYS).parent
    other = simulate(tmp_path / "other", DAYS * ROWS_OF_DAY, 8, "days", DAYS).parent
    for file in sorted(path.relative_to(folder) for path in folder.rglob("*.*") if path.is_file()):
        assert (folder / file).read_bytes() == (again / file).read_bytes()
    assert (folder / "catalogs/items.parquet").read_bytes() != (other / "catalogs/items.parquet").read_bytes()


def test_a_longer_one_begins_like_a_shorter_one(tmp_path, folder):
    short = simulate(tmp_path / "short", 15 * ROWS_OF_DAY, 7, "days", 15).parent
    files = sorted(path.relative_to(short) for path in (short / "events").rglob("*.parquet"))
    same = [(short / file).read_bytes() == (folder / file).read_bytes() for file in files]
    assert same == [True] * 10 + [False] * 5  # up to the break of the shorter one
    for name in ("users", "items"):
        of_short = catalog(short, name)
        pd.testing.assert_frame_equal(of_short, catalog(folder, name)[: len(of_short)])
    shown = ["time", "user", "item"]
    for file in files[10:]:  # a break changes tastes alone
        assert pq.read_table(short / file, columns=shown).equals(pq.read_table(folder / file, columns=shown))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"world": "platform", "days": 30}, "--days: 30 is given for 'platform'.*Give --world days"),
        ({"world": "market", "days": 5}, "--days: 5 is given for 'market'"),
        ({"world": "days", "days": 3}, "--days: 3 is too few.*at least 4"),
        ({"world": "days", "rows": 9_999}, "--rows: 9999 is too few for 30 days. Give at least 10000"),
        ({"world": "days", "rows": 19_999, "days": 100}, "--rows: 19999 is too few for 100 days. Give at least 20000"),
    ],
)
def test_what_cannot_be_simulated_is_refused(tmp_path, given, told: str):
    with pytest.raises(UserError, match=told):
        simulate(tmp_path / "a", **given)
    assert not (tmp_path / "a").exists()


def test_the_command_takes_a_number_of_days(tmp_path):
    arguments = ["simulate", str(tmp_path / "a"), "--rows", "10000", "--days", "6"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "next: foundrank embed" in done.output
    folders = sorted(path.name for path in (tmp_path / "a/events/feed").iterdir())
    assert folders == [f"day=2026-01-0{day}" for day in range(1, 7)]
