"""The storm events of a year, as they are in ``details-YYYY.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

#: In the order of the file, which is also the order in which a query prints them.
COLUMNS = (
    "EVENT_ID",
    "STATE",
    "YEAR",
    "MONTH_NAME",
    "EVENT_TYPE",
    "CZ_TYPE",
    "CZ_NAME",
    "INJURIES_DIRECT",
    "INJURIES_INDIRECT",
    "DEATHS_DIRECT",
    "DEATHS_INDIRECT",
    "DAMAGE_PROPERTY",
    "DAMAGE_CROPS",
    "TOR_F_SCALE",
)

Record = dict[str, str]

# A record has to fit into one datagram, as JSON and in UTF-8.
_ROW_CHARACTERS_MAX = 8_000


def event_key(text: str) -> str:
    """The key of an event: its id as a decimal number without leading zeros."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise ValueError(f"event id '{text[:40]}' is not a whole number")
    return str(int(text))


def read_year(folder: Path, year: str) -> dict[str, Record]:
    """Every record of a year by its key. ``ValueError`` says what is wrong, and where."""
    if not (year.isascii() and year.isdecimal() and len(year) == 4):
        raise ValueError(f"'{year[:40]}' is not a year YYYY")
    path = folder / f"details-{year}.csv"
    records: dict[str, Record] = {}
    line = 0
    try:
        # With newline="" the csv module itself finds the line ends: LF, CR LF or CR.
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file, strict=True)
            if next(rows, None) != list(COLUMNS):
                raise ValueError(f"the first line is not {','.join(COLUMNS)}")
            for row in rows:
                line = rows.line_num
                if row:
                    _add(records, row)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error
    except csv.Error as error:
        raise ValueError(f"{path}, after line {line}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}, line {max(line, 1)}: {error}") from error
    if not records:
        raise ValueError(f"{path} has no records")
    return records


def _add(records: dict[str, Record], row: list[str]) -> None:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} fields instead of {len(COLUMNS)}")
    if sum(map(len, row)) > _ROW_CHARACTERS_MAX:
        raise ValueError(f"more than {_ROW_CHARACTERS_MAX} characters")
    key = event_key(row[0])
    if key in records:
        raise ValueError(f"a second record with the event id {key}")
    records[key] = dict(zip(COLUMNS, row, strict=True))
