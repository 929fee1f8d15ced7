"""What a model asks for: stored features, and those that only the request can tell."""

import numpy as np

import mlflow_core as ml
from feature_repo.delays import (
    carrier_delay,
    carrier_now,
    destination_delay,
    hour_delay,
    origin_now,
    route_delay,
)
from feature_repo.planes import aircraft, plane_delay, previous_leg
from feature_repo.weather import weather

MINUTE = np.timedelta64(1, "m")


@ml.on_demand(
    request={
        "scheduled_departure": ml.Timestamp,
        "scheduled_minutes": float,
        "distance": float,
        "departure_hour": int,
        "carrier": str,
        "origin": str,
        "dest": str,
    }
)
def request_features(x):
    """What the booking itself says."""
    return {
        "hour": x["departure_hour"].astype(float),
        "minute_of_day": ml.minute_of_day(x["scheduled_departure"]),
        "day_of_week": ml.day_of_week(x["scheduled_departure"]),
        "miles": x["distance"],
        "minutes": x["scheduled_minutes"],
        "miles_per_minute": x["distance"] / x["scheduled_minutes"],
        "airline": x["carrier"],
        "from_airport": x["origin"],
        "to_airport": x["dest"],
    }


@ml.on_demand(
    inputs=[previous_leg[["last_departure", "last_scheduled_arrival"]]],
    request={"scheduled_departure": ml.Timestamp},
)
def turnaround(x):
    """How long ago the plane left New York last, and how much time its schedule leaves it to come back."""
    return {
        "minutes_since_leg": (x["scheduled_departure"] - x["last_departure"]) / MINUTE,
        "minutes_to_return": (x["scheduled_departure"] - x["last_scheduled_arrival"]) / MINUTE,
    }


delay_model = ml.FeatureService(
    "delay_model",
    [
        carrier_delay,
        carrier_now,
        origin_now,
        hour_delay,
        destination_delay,
        route_delay,
        weather,
        aircraft,
        previous_leg[["last_dep_delay", "legs_24h"]],
        plane_delay,
        request_features,
        turnaround,
    ],
    description="Two hours before departure: will the flight arrive more than 15 minutes late?",
    owner="ops@example.org",
)
