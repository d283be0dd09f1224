"""The experiment file that `import_completejourney` writes: domains, their features, and the YAML text."""

# Features that only some domains have: their line in the experiment file.
FEATURES = {
    "mailer": "{kind: list, entity: item}   # places in that week's mailers, any store",
    "display": "{kind: list, entity: item}  # displays in the shops that week, any store",
    "package_unit": "{kind: categorical, entity: item}  # OZ, CT, LB, ...",
    "private_share": "{kind: dense, entity: user}  # earlier purchases that were the chain's own brands",
    "maker_times_bought": "{kind: dense, transform: log1p}  # from the product's manufacturer, in earlier weeks",
    "days_since_visit": "{kind: dense, transform: log1p}  # since the household's last purchase",
}
# department -> domain and its own features. The departments left out have too few rows (seafood: 98) or too few
# products (fuel: 11).
DOMAINS = {
    "GROCERY": ("grocery", ("mailer", "display", "package_unit", "private_share")),
    "DRUG GM": ("drug", ("mailer", "display", "package_unit", "maker_times_bought")),
    "PRODUCE": ("produce", ("mailer", "days_since_visit")),
    "MEAT-PCKGD": ("packaged_meat", ("mailer", "display", "package_unit")),
    "MEAT": ("meat", ("mailer", "days_since_visit")),
    "DELI": ("deli", ("mailer", "days_since_visit")),
    "PASTRY": ("pastry", ("display", "days_since_visit")),
    "NUTRITION": ("nutrition", ("mailer", "display", "package_unit", "maker_times_bought")),
}
COLD = "nutrition"  # 777 training purchases, and half of the later ones are of products never sold before


def experiment_yaml(seed: int) -> str:
    """The text of ``experiment.yaml``."""
    return _HEAD.format(seed=seed) + "".join(
        _DOMAIN.format(domain=domain, cold="\n    cold: true" if domain == COLD else "")
        + "".join(f"      {name}: {FEATURES[name]}\n" for name in own)
        for domain, own in DOMAINS.values()
    )


_DOMAIN = """\
  {domain}:
    kind: recommendation{cold}
    events:
      train: events/{domain}/train/*.parquet
      validation: events/{domain}/validation/*.parquet
      test: events/{domain}/test/*.parquet
    tasks:
      purchase: {{label: purchase}}      # 1 bought, 0 a negative
      discounted: {{label: discounted}}  # bought at a loyalty discount; null for negatives
    list_column: list_id                # a purchase and its negatives
    time: week_begin                    # rates are of earlier weeks: a week's labels tell its negatives, which sold in it
    features:
"""

_HEAD = """\
# The Complete Journey: which product of a department does a household buy, and does it buy it at a discount?
# Written by `foundrank import completejourney` from a year (2017) of a grocery chain's purchases.
# Splits by time over the whole log: the first 80 % train, the next 10 % validation, the last 10 % test.
# Negatives: the log has purchases only. Each gets up to four products of its department that someone bought in the
# same week and split and its household did not buy that week, each such product being equally likely.
name: completejourney
seed: {seed}

entities:
  user:
    id: household_id
    catalog: {{path: catalogs/households.parquet, key: household_id}}
    history:
      column: history  # the last 30 products bought strictly before, from all departments below
      times: history_times
      time: time
    features:          # known of 801 households
      age: {{kind: categorical}}
      income: {{kind: categorical}}
      home_ownership: {{kind: categorical}}
      marital_status: {{kind: categorical}}
      household_size: {{kind: categorical}}
      household_comp: {{kind: categorical}}
      kids_count: {{kind: categorical}}
      discounted_share: {{kind: dense, source: events}}  # of the household's earlier purchases
  item:
    id: product_id
    catalog: {{path: catalogs/products.parquet, key: product_id}}
    # description: department, category and type in lower case, common abbreviations written out
    text: "{{description}} {{package_size}} {{brand}}"
    features:
      manufacturer_id: {{kind: categorical}}
      brand: {{kind: categorical}}             # Private (the chain's own) or National
      department: {{kind: categorical}}
      product_category: {{kind: categorical}}
      product_type: {{kind: categorical}}
      package_size: {{kind: categorical}}
      shelf_price: {{kind: dense, transform: log1p}}             # dollars before discounts, mean over training rows
      product_discounted_share: {{kind: dense, source: events}}  # of the product's sales in earlier weeks

context:
  hour: {{kind: categorical}}
  weekday: {{kind: categorical}}  # 0: Monday
  store_id: {{kind: categorical}}
  coupon: {{kind: categorical}}   # 1: the household had been sent a coupon for this product, valid that day
  # how often this household bought this product, its type and its category in earlier weeks
  times_bought: {{kind: dense, transform: log1p}}
  type_times_bought: {{kind: dense, transform: log1p}}
  category_times_bought: {{kind: dense, transform: log1p}}

model:
  rates: true      # of products and their categories, bought and discounted before
  id_dropout: 0.3  # most products sell a few times a year, so the other aspects must stand alone
  dropout: 0.2

training:
  epochs: 3
  batch_size: 512
  sparse_learning_rate: 0.01

domains:  # departments; all share households and stores
"""
