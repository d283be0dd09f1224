"""Figures of a tuning's page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.trial import FrozenTrial, TrialState

from ..report.figure import BLUE, GREY, ORANGE, STYLE, WIDTH, each_panel, svg
from .space import own_value
from .trials import Trials

_COLUMNS = 4


@rc_context(STYLE)
def values_by_trial(done: Sequence[FrozenTrial]) -> str:
    """The value of each trial, and the best so far."""
    figure = Figure((WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    whole = [(one.number, one.value) for one in done if one.state == TrialState.COMPLETE and one.value is not None]
    numbers, values = (np.array(each) for each in zip(*whole, strict=True))
    early = [
        (one.number, one.intermediate_values[max(one.intermediate_values)])
        for one in done
        if one.state == TrialState.PRUNED and one.intermediate_values
    ]
    if early:
        axes.plot(*zip(*early, strict=True), "o", color=GREY, markerfacecolor="none", markersize=5)
    axes.plot(numbers, values, "o", color=BLUE, markersize=5.5)
    axes.step(numbers, np.maximum.accumulate(values), where="post", color=BLUE, linewidth=1.4)
    axes.set(xlabel="trial", ylabel="value on validation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _spare_the_worst(axes, np.array([*values, *(value for _, value in early)]))
    return svg(figure, "Value of each trial and the best so far")


@rc_context(STYLE)
def importance_bars(found: Mapping[str, float]) -> str:
    """A bar for each setting, the most important above."""
    names, shares = list(found), list(found.values())
    figure = Figure((WIDTH, 0.7 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, shares, color=BLUE, height=0.6)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("share")
    for at, share in enumerate(shares):
        axes.annotate(f"{share:.0%}", (share, at), (4, 0), textcoords="offset points", va="center")
    return svg(figure, "Importance of each setting")


@rc_context(STYLE)
def settings_against_values(
    trials: Trials, whole: Sequence[FrozenTrial], best: FrozenTrial | None, own: Mapping[str, Any]
) -> str:
    """Per setting: the values that trials gave it, and what they came to."""
    keys = list(trials.space)
    columns = min(_COLUMNS, len(keys))
    lines = math.ceil(len(keys) / columns)
    figure = Figure((WIDTH, 0.3 + 2.3 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    found = [({**{key: own_value(own, key) for key in keys}, **trials.changes(one)}, one.value) for one in whole]
    for axes, key in each_panel(grid, keys):
        setting = trials.space[key]
        values = [value for _, value in found]
        if setting.choice is not None:
            names = [str(choice) for choice in setting.choice]
            at = [names.index(str(changes[key])) if str(changes[key]) in names else math.nan for changes, _ in found]
            axes.set_xticks(range(len(names)), names)
            axes.set_xlim(-0.5, len(names) - 0.5)
            here = names.index(str(own_value(own, key))) if str(own_value(own, key)) in names else None
        else:
            at = [_number(changes[key]) for changes, _ in found]
            here = own_value(own, key)
            if setting.log is not None:
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter("{x:g}")
                axes.xaxis.set_minor_formatter(NullFormatter())
        if here is not None and math.isfinite(_number(here)):
            axes.axvline(_number(here), color=GREY, linestyle="--", linewidth=1)
        axes.plot(at, values, "o", color=BLUE, markersize=4.5)
        if best is not None:
            ring = next(n for n, one in enumerate(whole) if one.number == best.number)
            axes.plot([at[ring]], [values[ring]], "o", color=ORANGE, markerfacecolor="none", markersize=10)
        if setting.ends is not None:  # points at an end are not cut in half
            axes.set_xlim(*_widened(*setting.ends, setting.log is not None))
        axes.set_title(key.removeprefix("training.").removeprefix("model."))
    _spare_the_worst(grid.flat[0], np.array([value for _, value in found]))
    return svg(figure, "Values of each setting")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _widened(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        return low * (low / high) ** 0.04, high * (high / low) ** 0.04
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _spare_the_worst(axes: Any, values: np.ndarray) -> None:
    """Begins the scale at the lower quarter, by as much as the others are apart: one that failed would squeeze the rest."""
    low, high = np.quantile(values, 0.25), values.max()
    bottom = max(values.min(), low - 1.5 * (high - low))
    if high > bottom:
        axes.set_ylim(bottom - 0.06 * (high - bottom), high + 0.08 * (high - bottom))
