"""How punctual carriers, airports and routes have been, as far as one could know at the time."""

import mlflow_core as ml
from feature_repo.entities import carrier, destination, origin, origin_hour, route
from feature_repo.sources import departures, flights

OPS = "ops@example.org"
HOURLY = ml.Every("1h", delay="10m")
LATE = {"late": "arr_delay > 15"}

carrier_delay = ml.FeatureView(
    "carrier_delay",
    entity=carrier,
    source=flights,
    owner=OPS,
    columns=LATE,
    features=[
        ml.Agg("late", "mean", over="24h", name="carrier_late_24h"),
        ml.Agg("late", "mean", over="14d", name="carrier_late_14d"),
        ml.Agg("arr_delay", "mean", over="24h", name="carrier_arr_delay_24h"),
        ml.Agg("*", "count", over="24h", where="cancelled", name="carrier_cancelled_24h"),
    ],
    availability=HOURLY,
    checks=[
        ml.NullRate("carrier_late_14d", below=0.05),
        ml.InRange("carrier_late_14d", at_least=0.0, at_most=1.0),
    ],
)

origin_now = ml.FeatureView(
    "origin_now",
    entity=origin,
    source=departures,
    owner=OPS,
    features=[
        ml.Agg("dep_delay", ["mean", "quantile(0.9)"], over="3h"),
        ml.Agg("dep_delay", "mean", over="1h", offset="1h"),  # is it getting better or worse?
        ml.Agg("*", "count", over="3h", name="origin_departures_3h"),
        ml.Agg("*", "count", over="12h", where="cancelled", name="origin_cancelled_12h"),
    ],
    availability=HOURLY,
    checks=[ml.NullRate("dep_delay_mean_3h", below=0.5, severity="warn")],
)

carrier_now = ml.FeatureView(
    "carrier_now",
    entity=carrier,
    source=departures,
    owner=OPS,
    features=[
        ml.Agg("dep_delay", "mean", over="4h", name="carrier_dep_delay_4h"),
        ml.Agg("dep_delay", "max", over="4h", name="carrier_dep_delay_max_4h"),
    ],
    availability=HOURLY,
)

destination_delay = ml.FeatureView(
    "destination_delay",
    entity=destination,
    source=flights,
    owner=OPS,
    columns=LATE,
    features=[
        ml.Agg("late", "mean", over="12h", name="dest_late_12h"),
        ml.Agg("late", "mean", over="14d", name="dest_late_14d"),
        ml.Agg("arr_delay", "mean", over="12h", name="dest_arr_delay_12h"),
    ],
    availability=HOURLY,
)

route_delay = ml.FeatureView(
    "route_delay",
    entity=route,
    source=flights,
    owner=OPS,
    columns=LATE,
    features=[
        ml.Agg("late", "mean", over="28d", name="route_late_28d"),
        ml.Agg("arr_delay", ["mean", "std"], over="28d"),
        ml.Agg("arr_delay", "mean", over="2d", name="route_arr_delay_2d"),
    ],
    availability=HOURLY,
)

hour_delay = ml.FeatureView(
    "hour_delay",
    entity=origin_hour,
    source=departures,
    owner=OPS,
    columns={"left_late": "dep_delay > 15"},
    features=[
        ml.Agg("left_late", "mean", over="14d", name="hour_left_late_14d"),
        ml.Agg("dep_delay", "mean", over="1d", name="same_hour_yesterday"),
        ml.Agg("*", "count", over="7d", name="hour_departures_7d"),
    ],
    availability=HOURLY,
)
