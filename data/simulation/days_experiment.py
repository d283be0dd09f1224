"""The experiment file of the simulated feed with days."""

import numpy as np

MOST_DAYS = 9  # of training: so many first days of a month can be named by one pattern

EXPERIMENT_YAML = """\
# A simulated feed with days: items and users come and go, tastes move. Trains on the first {count} days; events/feed/ has the others, and
# days.parquet what happens on each. Every row carries the probability that its click was drawn with.
name: days

entities:
  user:
    id: user
    catalog: {{path: catalogs/users.parquet, key: user}}
    features:
      segment: {{kind: categorical}}
  item:
    id: item
    catalog: {{path: catalogs/items.parquet, key: item}}
    text: "{{title}}" # says the topic, which no feature does: what there is to know of an item on its first day
    features:
      category: {{kind: categorical}} # a department: two topics
      brand: {{kind: categorical}}

training:
  batch_size: 128
  epochs: 4
  sparse_learning_rate: 0.005

domains:
  feed:
    kind: recommendation
    events:
      train: events/feed/{train}/*.parquet
      validation: events/feed/{validation}/*.parquet
      test: events/feed/{test}/*.parquet
    time: time
    tasks:
      click: {{label: click, probability: p_click}}
"""


def experiment_of(first: np.datetime64, days: int) -> str:
    """The experiment that trains on not quite the first half of the days, at most 9, and validates and tests on the two after.

    Args:
        first: the first day, a first of a month.
        days: how many there are, at least 4; the test is before the break.
    """
    count = min((days - 1) // 2, MOST_DAYS)
    train = f"day={first.astype('datetime64[M]')}-0[1-{count}]"
    return EXPERIMENT_YAML.format(
        count=count, train=train, validation=f"day={first + count}", test=f"day={first + count + 1}"
    )
