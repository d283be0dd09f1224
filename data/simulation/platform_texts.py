"""Words of the simulated world: topics, title and query templates, and its experiment file."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Topic:
    """What one topic is called, which department sells it, and the words its texts are made of."""

    name: str
    department: str
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    uses: tuple[str, ...]


def _topic(name: str, department: str, nouns: str, adjectives: str, uses: str) -> Topic:
    return Topic(name, department, *(tuple(words.split(", ")) for words in (nouns, adjectives, uses)))


# fmt: off
TOPICS = (
    _topic("camping", "outdoor", "tent, sleeping bag, camping stove, headlamp, hammock, cool box",
           "lightweight, waterproof, titanium, foldable", "backpackers, family weekends, winter nights"),
    _topic("cycling", "outdoor", "road bike, bike helmet, pannier, bike lock, inner tube, saddle",
           "carbon, aerodynamic, gravel, commuter", "daily commutes, alpine climbs, bike tours"),
    _topic("espresso", "kitchen", "espresso machine, coffee grinder, milk frother, tamper, coffee bean, portafilter",
           "dark roast, burr, stainless, barista", "latte art, morning coffee, small cafés"),
    _topic("baking", "kitchen", "sourdough starter, stand mixer, bread pan, rolling pin, cake tin, flour",
           "rustic, whole grain, nonstick, gluten free", "birthday cakes, crusty loaves, holiday cookies"),
    _topic("jazz records", "music", "jazz vinyl, turntable, saxophone solo, swing album, record sleeve, bebop quartet",
           "remastered, mono pressing, blue, vintage", "late night listening, collectors, big band fans"),
    _topic("guitar", "music", "acoustic guitar, guitar pedal, amplifier, capo, guitar string, songbook",
           "fingerstyle, electric, twelve string, overdriven", "rock riffs, campfire songs, home recording"),
    _topic("gardening", "home", "tomato seedling, pruning shear, raised bed, compost bin, garden hose, flower bulb",
           "organic, perennial, drought resistant, heirloom", "balconies, vegetable plots, rose borders"),
    _topic("woodworking", "home", "hand plane, table saw, chisel set, workbench, dovetail jig, wood glue",
           "oak, hardened, cordless, japanese", "furniture making, carving, joinery"),
    _topic("photography", "tech", "camera lens, tripod, mirrorless camera, flash, camera bag, darkroom print",
           "wide angle, full frame, prime, black and white", "portraits, landscapes, street scenes"),
    _topic("video games", "tech", "game console, gaming controller, strategy game, gaming headset, arcade stick, puzzle game",
           "multiplayer, retro, open world, wireless", "speedruns, couch co-op, esports"),
    _topic("yoga", "wellness", "yoga mat, meditation cushion, yoga block, breathing exercise, sun salutation, stretching strap",
           "restorative, mindful, cork, gentle", "back pain, morning calm, flexibility"),
    _topic("skincare", "wellness", "face serum, sunscreen, night cream, cleanser, clay mask, lip balm",
           "hydrating, fragrance free, vitamin c, soothing", "dry skin, sensitive skin, acne"),
)
# fmt: on

NOUNS = 6  # of each topic

# An item leans to one end of a style axis shared by all topics; its title and its tags say which.
STYLE_WORDS = (("beginner", "simple", "budget", "starter"), ("professional", "advanced", "premium", "expert"))
STYLE_TAGS = (("easy", "first_steps", "good_value", "gift"), ("high_end", "long_lasting", "for_experts", "award"))

KINDS = ("product", "video", "service", "coupon", "event")
TITLES = {
    "product": ("{style} {adjective} {noun} for {use}", "{adjective} {noun}, {style} choice for {use}"),
    "video": ("how to pick a {noun}: {style} guide for {use}", "{style} {topic} tips: {adjective} {noun}"),
    "service": ("{style} {topic} lessons: {noun}, {use}", "{noun} repair and {topic} advice, {style}"),
    "coupon": ("voucher for a {style} {adjective} {noun}", "{topic} coupon: {style} {noun}"),
    "event": ("{style} {topic} meetup: {noun} evening for {use}", "{topic} festival with {style} {noun} workshop"),
}
QUERY_FAMILIES = ("product", "video", "service")  # one per search domain
QUERIES = {
    "product": ("{adjective} {noun}", "{noun} for {use}"),
    "video": ("how to use a {adjective} {noun}", "{topic} {noun} tips for {use}"),
    "service": ("{adjective} {noun} repair near me", "{topic} lessons {noun} {use}"),
}
QUERIES_PER_TOPIC = 3 * NOUNS  # per family

AGE_BANDS = ("18-24", "25-34", "35-44", "45-59", "60+")
REGIONS = ("north", "coast", "lakes", "capital", "valley", "hills", "south", "islands")
DEVICES = ("phone", "tablet", "desktop")
# fmt: off
BRANDS = (
    "Alder", "Anvil", "Aspen", "Bramble", "Brook", "Cedar", "Cinder", "Clover", "Comet", "Coral", "Crane", "Delta",
    "Drift", "Dune", "Ember", "Falcon", "Fern", "Finch", "Flint", "Garnet", "Grove", "Harbor", "Hazel", "Heron",
    "Indigo", "Iris", "Juniper", "Kestrel", "Lark", "Linden", "Lumen", "Maple", "Meadow", "Merlin", "Mistral", "Nimbus",
    "Onyx", "Opal", "Otter", "Pebble", "Quartz", "Raven", "Reef", "Rowan", "Sable", "Sierra", "Sparrow", "Summit",
)
# fmt: on


def item_titles(
    rng: np.random.Generator,
    kind: np.ndarray,
    topic: np.ndarray,
    second: np.ndarray,
    noun: np.ndarray,
    style: np.ndarray,
) -> list[str]:
    """One title per item.

    Args:
        rng: chooses templates, adjectives and uses.
        kind: ``[I]`` positions in `KINDS`.
        topic: ``[I]`` positions in `TOPICS`.
        second: ``[I]`` the weak second topic, -1 for none.
        noun: ``[I]`` positions in the topic's nouns.
        style: ``[I]`` 0 or 1, the end of the style axis.
    """
    draws = rng.integers(0, 60, size=(len(kind), 4))
    titles = []
    for k, t, s, n, y, (template, adjective, use, word) in zip(kind, topic, second, noun, style, draws, strict=True):
        words = TOPICS[t]
        title = TITLES[KINDS[k]][template % 2].format(
            topic=words.name,
            noun=words.nouns[n],
            adjective=words.adjectives[adjective % len(words.adjectives)],
            use=words.uses[use % len(words.uses)],
            style=STYLE_WORDS[y][word % len(STYLE_WORDS[y])],
        )
        titles.append(title if s < 0 else f"{title}, also {TOPICS[s].name}")
    return titles


def query_texts() -> list[str]:
    """All queries, ordered by family, then topic, then from the most to the least asked."""
    texts = []
    for family in QUERY_FAMILIES:
        for t in TOPICS:
            for i in range(QUERIES_PER_TOPIC):
                template = QUERIES[family][i // len(t.nouns) % 2]
                adjective, use = t.adjectives[(i + i // 12) % len(t.adjectives)], t.uses[i % len(t.uses)]
                texts.append(
                    template.format(topic=t.name, noun=t.nouns[i % len(t.nouns)], adjective=adjective, use=use)
                )
    return texts


EXPERIMENT_YAML = """\
# A simulated platform: three search and four recommendation domains over one set of users, items and queries.
# Every row carries the probability its labels were drawn with, so reports can show the best AUC there is.
name: simulated

entities:
  user:
    id: user
    catalog: {path: catalogs/users.parquet, key: user}
    text: "{about}" # two things the user likes; more of it shows in the history
    history: {column: history, max_length: 30} # items clicked before this request, in any domain
    features:
      age_band: {kind: categorical}
      region: {kind: categorical}
      device: {kind: categorical}
  item:
    id: item
    catalog: {path: catalogs/items.parquet, key: item}
    text: "{title}" # says the topic, which no other feature does: what carries over to new items
    features:
      category: {kind: categorical} # a department: two topics
      brand: {kind: categorical}
      price: {kind: dense, transform: log1p}
      rating: {kind: dense}
      tags: {kind: list, max_length: 4}
  query:
    id: query
    catalog: {path: catalogs/queries.parquet, key: query}
    text: "{text}"

context:
  hour: {kind: categorical}
  position: {kind: categorical} # place in the result list, from 1

training:
  batch_size: 512
  sparse_learning_rate: 0.005  # ids say little here that text and features do not, and overfit when learned fast

domains:
  shop_search:
    kind: search
    events:
      train: events/shop_search/train/*.parquet
      validation: events/shop_search/validation/*.parquet
      test: events/shop_search/test/*.parquet
    list_column: request
    tasks: &tasks # the same two everywhere
      click: {label: click, probability: p_click}
      conversion: {label: conversion, probability: p_conversion} # null where nothing was clicked
    features:
      seller: {kind: categorical, entity: item}
      price_band: {kind: categorical, entity: item}

  shop_feed:
    kind: recommendation
    events:
      train: events/shop_feed/train/*.parquet
      validation: events/shop_feed/validation/*.parquet
      test: events/shop_feed/test/*.parquet
    list_column: request
    tasks: *tasks
    features: # shared with shop_search
      seller: {kind: categorical, entity: item}
      price_band: {kind: categorical, entity: item}

  video_search:
    kind: search
    events:
      train: events/video_search/train/*.parquet
      validation: events/video_search/validation/*.parquet
      test: events/video_search/test/*.parquet
    list_column: request
    tasks: *tasks
    features:
      creator: {kind: categorical, entity: item}
      duration: {kind: dense, transform: log1p, entity: item} # seconds
      hashtags: {kind: list, entity: item, max_length: 3}

  video_feed:
    kind: recommendation
    events:
      train: events/video_feed/train/*.parquet
      validation: events/video_feed/validation/*.parquet
      test: events/video_feed/test/*.parquet
    list_column: request
    tasks: *tasks
    features:
      creator: {kind: categorical, entity: item}
      duration: {kind: dense, transform: log1p, entity: item}
      hashtags: {kind: list, entity: item, max_length: 3}

  services_search:
    kind: search
    events:
      train: events/services_search/train/*.parquet
      validation: events/services_search/validation/*.parquet
      test: events/services_search/test/*.parquet
    list_column: request
    tasks: *tasks
    features:
      distance: {kind: dense, transform: log1p} # kilometres from the user, hence of the event

  coupons_feed:
    kind: recommendation
    events:
      train: events/coupons_feed/train/*.parquet
      validation: events/coupons_feed/validation/*.parquet
      test: events/coupons_feed/test/*.parquet
    list_column: request
    tasks: *tasks
    features:
      discount: {kind: categorical} # percent

  events_feed: # opened late, with items of its own
    kind: recommendation
    cold: true
    events:
      train: events/events_feed/train/*.parquet
      validation: events/events_feed/validation/*.parquet
      test: events/events_feed/test/*.parquet
    list_column: request
    tasks: *tasks
    features:
      days_ahead: {kind: dense, transform: log1p}
"""
