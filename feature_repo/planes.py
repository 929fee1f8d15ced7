"""The aircraft: what it is, and how its previous leg out of New York went."""

import mlflow_core as ml
from feature_repo.entities import plane
from feature_repo.sources import departures, flights, plane_list

aircraft = ml.FeatureView(
    "aircraft",
    entity=plane,
    source=plane_list,
    owner="fleet@example.org",
    features=["built_in", "seats", "engines", "manufacturer"],
    availability=ml.Every("1d", delay="1h"),
)

previous_leg = ml.FeatureView(
    "previous_leg",
    entity=plane,
    source=departures,
    owner="fleet@example.org",
    features=[
        ml.Agg("dep_delay", "last", over="24h", name="last_dep_delay"),
        ml.Agg("scheduled_departure", "last", over="7d", name="last_departure"),
        ml.Agg("scheduled_arrival", "last", over="7d", name="last_scheduled_arrival"),
        ml.Agg("*", "count", over="24h", name="legs_24h"),
    ],
    availability=ml.Every("1h", delay="10m"),
)

plane_delay = ml.FeatureView(
    "plane_delay",
    entity=plane,
    source=flights,
    owner="fleet@example.org",
    features=[
        ml.Agg("arr_delay", "last", over="24h", name="last_arr_delay"),
        ml.Agg("arr_delay", "mean", over="14d", name="plane_arr_delay_14d"),
    ],
    availability=ml.Every("1h", delay="10m"),
)
