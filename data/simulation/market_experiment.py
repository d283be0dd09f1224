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
      interests: {kind: weighted_list, weights: interest_weights}
  item:
    id: item
    catalog: {path: catalogs/items.parquet, key: item}
    features:
      category: {kind: categorical}
      brand: {kind: categorical}
      stars: {kind: dense}
      price: {kind: bucketed} # neither cheap nor dear sells best

model:
  dropout: 0 # or scores come out too high: they are of the whole network

training:
  batch_size: 512
  epochs: 3
  sparse_learning_rate: 0.005

domains:
  shelf: # items in a random order
    kind: recommendation
    events: {train: events/shelf/train/*.parquet, validation: events/shelf/validation/*.parquet, test: events/shelf/test/*.parquet}
    time: time
    list_column: request
    tasks:
      click: {label: click, probability: p_click}
      conversion: {label: conversion, given: click, probability: p_click_conversion} # of all rows, not of clicks alone
      long_dwell: {label: {column: dwell, at_least: 30}}
      rating: {kind: ordinal, label: rating, expected: expected_rating} # from 1 to 5, where there is one
      dwell: {kind: regression, label: dwell, expected: expected_dwell} # seconds
      spend: {kind: value, label: spend, expected: expected_spend} # often 0
      units: {kind: count, label: units, expected: expected_units}

  results: # ranked: who is shown first is seen more
    kind: recommendation
    events: {train: events/results/train/*.parquet, validation: events/results/validation/*.parquet, test: events/results/test/*.parquet}
    time: time
    list_column: request
    features:
      position: {kind: categorical, bias: true} # explains clicks in training; scores are of no position in particular
    tasks:
      click: {label: click, probability: p_click}

  sampled: # training has all clicks and a fifth of the other rows
    kind: recommendation
    events: {train: events/sampled/train/*.parquet, validation: events/sampled/validation/*.parquet, test: events/sampled/test/*.parquet}
    time: time
    tasks:
      click: {label: click, negative_rate: 0.2, probability: p_click}

  kiosk: # nobody knows who stands before it
    kind: recommendation
    events: {train: events/kiosk/train/*.parquet, validation: events/kiosk/validation/*.parquet, test: events/kiosk/test/*.parquet}
    time: time
    users: false
    tasks:
      click: {label: click, probability: p_click}
"""
