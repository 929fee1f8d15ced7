"""Make the readings: ten machines, one reading a day for eighty days, hotter and shakier before they break."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SEED = 20
MACHINES, DAYS = 10, 80
DAY_US = 86_400_000_000
START_US = 1_704_067_200_000_000  # 2024-01-01


def generate(path: Path, seed: int = SEED) -> None:
    """Write the readings; the same seed writes the same file."""
    random = np.random.default_rng(seed)
    rows = []
    for machine in range(MACHINES):
        wear = random.uniform(0, 6)
        for day in range(DAYS):
            wear += random.gamma(2.0, 0.5)
            broke = bool(wear > 9 + random.normal(0, 1))
            rows.append(
                {
                    "machine": f"m{machine}",
                    "read_at": START_US + day * DAY_US + machine * 60_000_000,
                    "temperature": 60 + 2.0 * wear + random.normal(0, 2),
                    "vibration": 0.5 + 0.1 * wear + random.normal(0, 0.2),
                    "broke": int(broke),
                }
            )
            wear = 0.0 if broke else wear
    schema = pa.schema(
        [
            ("machine", pa.string()),
            ("read_at", pa.timestamp("us", "UTC")),
            ("temperature", pa.float64()),
            ("vibration", pa.float64()),
            ("broke", pa.int64()),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


if __name__ == "__main__":
    generate(Path(__file__).parent / "machines" / "data" / "readings.parquet")
