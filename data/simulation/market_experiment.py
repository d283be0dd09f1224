"""The experiment file of the simulated market."""

EXPERIMENT_YAML = """\
# A simulated market: every kind of label. Each row carries the expectation that its labels were drawn with, so that reports
# can show the best numbers there are.
name: market

entities:
  user:
    id: user
    catalog: {path: catalogs/users.parquet, key: user}
    features:
      segment: {kind: categorical}
      interests: {kind: list}
  item:
    id: item
    catalog: {path: catalogs/items.parquet, key: item}
    features:
      category: {kind: categorical}
      brand: {kind: categorical}
      stars: {kind: dense}
      price: {kind: dense, transform: log1p}

model:
  aspects: [id, sparse]

training:
  batch_size: 512
  epochs: 4
  sparse_learning_rate: 0.005

domains:
  shelf: # items in a random order
    kind: recommendation
    events: {train: events/shelf/train/*.parquet, validation: events/shelf/validation/*.parquet, test: events/shelf/test/*.parquet}
    list_column: request
    tasks:
      click: {label: click, probability: p_click}

  results: # ranked: who is shown first is seen more
    kind: recommendation
    events: {train: events/results/train/*.parquet, validation: events/results/validation/*.parquet, test: events/results/test/*.parquet}
    list_column: request
    tasks:
      click: {label: click, probability: p_click}

  sampled: # training has all clicks and a fifth of the other rows
    kind: recommendation
    events: {train: events/sampled/train/*.parquet, validation: events/sampled/validation/*.parquet, test: events/sampled/test/*.parquet}
    tasks:
      click: {label: click, probability: p_click}
"""
