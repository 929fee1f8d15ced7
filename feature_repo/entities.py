"""What the features describe."""

import mlflow_core as ml

carrier = ml.Entity("carrier", description="An airline, by its two-character code.")
plane = ml.Entity("plane", keys=["tailnum"], description="One aircraft, by its tail number.")
origin = ml.Entity("origin", description="The New York airport that a flight leaves from: EWR, JFK or LGA.")
destination = ml.Entity("destination", keys=["dest"], description="The airport that a flight goes to.")
route = ml.Entity("route", keys=["origin", "dest"], description="From one airport to another.")
origin_hour = ml.Entity(
    "origin_hour",
    keys=["origin", "departure_hour"],
    description="An airport at one hour of its day: schedules and jams repeat daily.",
)
