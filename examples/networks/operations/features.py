"""What a flight's plane has just flown, how its carrier, route and airport are doing, and the weather."""

import numpy as np

import mlflow_core as ml

carrier = ml.Entity("carrier", description="An airline, by its two-character code.")
plane = ml.Entity("plane", keys=["tailnum"], description="One aircraft, by its tail number.")
origin = ml.Entity("origin", description="The New York airport that a flight leaves from.")
route = ml.Entity("route", keys=["origin", "dest"], description="From one airport to another.")

flights = ml.ParquetSource(
    "flights",
    path="data/flights.parquet",
    event_time="scheduled_departure",
    known_at="outcome_known",
    event_id="flight_id",
)
departures = ml.ParquetSource(
    "departures",
    path="data/flights.parquet",
    event_time="scheduled_departure",
    known_at="departure_known",
    event_id="flight_id",
)
weather_reports = ml.ParquetSource(
    "weather_reports", path="data/weather.parquet", event_time="observed", known_at="reported"
)

HOURLY = ml.Every("1h", delay="10m")
LATE = {"late": "arr_delay > 15"}

carrier_delay = ml.FeatureView(
    "carrier_delay",
    entity=carrier,
    source=flights,
    columns=LATE,
    features=[
        ml.Agg("late", "mean", over=["12h", "14d"]),
        ml.Agg("arr_delay", "mean", over="24h", name="carrier_arr_delay_24h"),
    ],
    availability=HOURLY,
)
route_delay = ml.FeatureView(
    "route_delay",
    entity=route,
    source=flights,
    columns=LATE,
    features=[
        ml.Agg("late", "mean", over="28d", name="route_late_28d"),
        ml.Agg("arr_delay", "std", over="28d"),
    ],
    availability=HOURLY,
)
origin_now = ml.FeatureView(
    "origin_now",
    entity=origin,
    source=departures,
    features=[
        ml.Agg("dep_delay", ["mean", "max", "quantile(0.9)"], over="3h"),
        ml.Agg("dep_delay", "mean", over="1h", offset="1h"),
        ml.Agg("*", "count", over="3h", name="departures_3h"),
        ml.Agg("*", "count", over="6h", where="cancelled", name="cancelled_6h"),
    ],
    availability=HOURLY,
)
weather = ml.FeatureView(
    "weather",
    entity=origin,
    source=weather_reports,
    features=["temp", "humid", "wind_speed", "precip", "pressure", "visib"],
    ttl="3h",
    availability=HOURLY,
)
last_legs = ml.FeatureView(
    "last_legs",
    entity=plane,
    source=departures,
    features=[
        ml.Agg("dep_delay", "last(8)", over="7d", name="legs_dep_delay"),
        ml.Agg("distance", "last(8)", over="7d", name="legs_distance"),
        ml.Agg("departure_hour", "last(8)", over="7d", name="legs_hour"),
        ml.Agg("dep_delay", "last", over="24h", name="last_dep_delay"),
        ml.Agg("*", "count", over="24h", name="legs_24h"),
    ],
    availability=HOURLY,
)


@ml.on_demand(
    request={
        "scheduled_departure": ml.Timestamp,
        "departure_hour": int,
        "distance": float,
        "carrier": str,
        "origin": str,
        "dest": str,
    }
)
def booking(x):
    """What the booking itself says."""
    angle = 2 * np.pi * x["departure_hour"].astype(float) / 24
    return {
        "hour": x["departure_hour"].astype(float),
        "hour_sine": np.sin(angle),
        "hour_cosine": np.cos(angle),
        "day_of_week": ml.day_of_week(x["scheduled_departure"]),
        "miles": x["distance"],
        "airline": x["carrier"],
        "from_airport": x["origin"],
        "to_airport": x["dest"],
    }


single_values = last_legs[["last_dep_delay", "legs_24h"]]
tabular = ml.FeatureService(
    "tabular", [carrier_delay, route_delay, origin_now, weather, single_values, booking]
)
sequential = ml.FeatureService(
    "sequential", [carrier_delay, route_delay, origin_now, weather, last_legs, booking]
)
hourly = ml.FeatureService("hourly", [origin_now, weather])
