-- Counts the training events of the simulated platform (`foundrank simulate world`) in DuckDB, for `foundrank count --from`.
-- In the folder of the experiment, with DuckDB 1.3 or later:
--
--     mkdir tables
--     duckdb < count_with_duckdb.sql
--     foundrank count experiment.yaml counts --from tables
--     foundrank train experiment.yaml --counts counts
--
-- For your own events, change the paths and columns. docs/reference/counts.md has the schema of the tables. What is missing, or is
-- there and not wanted, `foundrank count --check` names.

CREATE VIEW events AS
SELECT *, parse_path(filename)[-3] AS domain -- events/DOMAIN/train/FILE
FROM read_parquet('events/*/train/*.parquet', filename = true, union_by_name = true);

-- The training rows of each domain, by which counts of other events are found out.
COPY (SELECT domain, count(*) AS rows FROM events GROUP BY domain) TO 'tables/rows.parquet';

-- Ids of entities and of categorical features, those that are rare too: foundrank applies min_count, buckets and the order of rows.
CREATE MACRO counted(of) AS TABLE
SELECT of AS value, count(*) AS count FROM events WHERE of IS NOT NULL GROUP BY of;

COPY (FROM counted(user)) TO 'tables/id_user.parquet';
COPY (FROM counted(item)) TO 'tables/id_item.parquet';
COPY (FROM counted(query)) TO 'tables/id_query.parquet';
COPY (FROM counted(hour)) TO 'tables/feature_hour.parquet';
COPY (FROM counted("position")) TO 'tables/feature_position.parquet';
COPY (FROM counted(seller)) TO 'tables/feature_seller.parquet';
COPY (FROM counted(price_band)) TO 'tables/feature_price_band.parquet';
COPY (FROM counted(creator)) TO 'tables/feature_creator.parquet';
COPY (FROM counted(discount)) TO 'tables/feature_discount.parquet';

-- A list counts its ids, the last max_length of each row.
COPY (
    WITH ids AS (SELECT unnest(list_filter(hashtags, lambda tag: tag IS NOT NULL)[-3:]) AS value FROM events)
    SELECT value, count(*) AS count FROM ids GROUP BY value
) TO 'tables/feature_hashtags.parquet';

-- Dense features, after their transform. All of these have `transform: log1p`.
COPY (
    WITH numbers AS (
        UNPIVOT (SELECT ln(1 + duration) AS duration, ln(1 + distance) AS distance, ln(1 + days_ahead) AS days_ahead FROM events)
        ON duration, distance, days_ahead INTO NAME name VALUE number
    )
    SELECT name, count(*) AS count, avg(number) AS mean, stddev_pop(number) AS deviation FROM numbers GROUP BY name
) TO 'tables/numbers.parquet';
