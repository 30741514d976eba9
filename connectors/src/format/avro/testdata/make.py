"""Makes fastavro.json: records as fastavro writes them. Run it with fastavro 1.13 installed."""

import datetime as dt
import decimal
import io
import json
import pathlib

import fastavro

UTC = dt.timezone.utc
ALL = {
    "type": "record",
    "name": "All",
    "namespace": "test",
    "fields": [
        {"name": "b", "type": "boolean"},
        {"name": "i", "type": "int"},
        {"name": "l", "type": "long"},
        {"name": "f", "type": "float"},
        {"name": "d", "type": "double"},
        {"name": "s", "type": "string"},
        {"name": "y", "type": "bytes"},
        {"name": "x", "type": {"type": "fixed", "name": "X", "size": 3}},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["RED", "GREEN"]}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "ms", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "us", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
        {"name": "p", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
        {
            "name": "q",
            "type": {"type": "fixed", "name": "Q", "size": 5, "logicalType": "decimal", "precision": 9, "scale": 3},
        },
        {"name": "n", "type": ["null", "string"]},
        {"name": "m", "type": ["long", "null"]},
        {"name": "list", "type": {"type": "array", "items": ["null", "int"]}},
        {"name": "map", "type": {"type": "map", "values": "double"}},
        {
            "name": "r",
            "type": {
                "type": "record",
                "name": "R",
                "fields": [{"name": "a", "type": "E"}, {"name": "z", "type": ["null", "string"]}],
            },
        },
    ],
}


def every(n):
    sign = -1 if n % 2 else 1
    return {
        "b": n % 2 == 0,
        "i": sign * n * 1000003 % 2**31,
        "l": sign * n**9,
        "f": n / 4,
        "d": sign * n / 3,
        "s": "ü" * n,
        "y": bytes(range(n)),
        "x": bytes([n, 255, 0]),
        "e": "GREEN" if n % 2 else "RED",
        "day": dt.date(1970, 1, 1) + dt.timedelta(days=sign * n * 1000),
        "ms": dt.datetime(2026, 1, 1, 0, 0, n, 123000, tzinfo=UTC),
        "us": dt.datetime(1960, 1, 1, 0, 0, n, 123456, tzinfo=UTC),
        "local": dt.datetime(2026, 1, 1, 12, n, 0, 1),
        "p": decimal.Decimal(sign * n**11).scaleb(-2),
        "q": decimal.Decimal(sign * n * 1234).scaleb(-3),
        "n": "there" if n % 3 == 0 else None,
        "m": n if n % 3 == 1 else None,
        "list": [k if k % 2 else None for k in range(n)],
        "map": {str(k): k / 2 for k in range(n)},
        "r": {"a": "RED", "z": None if n % 2 else "z"},
    }


OLD = {
    "type": "record",
    "name": "User",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "gone", "type": {"type": "map", "values": {"type": "array", "items": "string"}}},
        {"name": "name", "type": ["null", "bytes"]},
        {"name": "score", "type": "float"},
        {"name": "at", "type": {"type": "record", "name": "At", "fields": [{"name": "x", "type": "int"}]}},
        {"name": "choice", "type": ["null", "int", "string", "At"]},
    ],
}
OLD_ROWS = [
    {"id": 7, "gone": {"k": ["a", "b"]}, "name": b"ada", "score": 1.5, "at": {"x": 1}, "choice": 5},
    {"id": -7, "gone": {}, "name": None, "score": -0.5, "at": {"x": 2}, "choice": "text"},
    {"id": 0, "gone": {}, "name": b"", "score": 0.0, "at": {"x": 3}, "choice": None},
    {"id": 1, "gone": {}, "name": None, "score": 0.0, "at": {"x": 4}, "choice": {"x": 9}},
]


def case(schema, rows):
    parsed = fastavro.parse_schema(schema)
    records = []
    for row in rows:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, row)
        records.append(out.getvalue().hex())
    return {"schema": schema, "records": records}


cases = {"all": case(ALL, [every(n) for n in range(6)]), "old": case(OLD, OLD_ROWS)}
path = pathlib.Path(__file__).with_name("fastavro.json")
path.write_text(json.dumps(cases, indent=1) + "\n")
