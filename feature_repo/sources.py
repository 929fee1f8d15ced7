"""Where the events come from; ``prepare_data`` writes the files."""

import mlflow_core as ml

flights = ml.ParquetSource(
    "flights",
    path="data/flights.parquet",
    event_time="scheduled_departure",
    known_at="outcome_known",
    event_id="flight_id",
    description="Flights with their outcome, which is known when they have arrived.",
)

departures = ml.ParquetSource(
    "departures",
    path="data/flights.parquet",
    event_time="scheduled_departure",
    known_at="departure_known",
    event_id="flight_id",
    description="The same flights as the tower sees them: how late one left is known hours before it arrives.",
)

weather_reports = ml.ParquetSource(
    "weather_reports",
    path="data/weather.parquet",
    event_time="observed",
    known_at="reported",
    description="Hourly weather at the three airports, known when the hour is over.",
)

plane_list = ml.ParquetSource(
    "plane_list",
    path="data/planes.parquet",
    event_time="listed",
    rename={"built": "built_in"},
    description="The register of aircraft, one list for the year.",
)
