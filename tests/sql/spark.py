#!/usr/bin/env python3
"""Holds tests/sql/expressions against a real Spark: pip install pyspark, Java 17, then

    python3 tests/sql/spark.py [PART OF A FILE'S NAME ...]

Prints each line on which Spark answers differently, and exits with 1 if there is any. A line is
passed over where a comment right above it begins with `# differs:`.
"""
import re
import sys
from pathlib import Path

DIRECTORY = Path(__file__).parent / "expressions"
CLASS = re.compile(r"\[([A-Z][A-Z_0-9.]{3,})\]")
SETTING = re.compile(r"@ SET '([^']+)' = '([^']*)'")


def spark_session():
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        sys.exit("pyspark is not there: pip install pyspark")
    builder = SparkSession.builder.master("local[1]").appName("tidemark")
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.log.level": "OFF",
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def type_name(kind):
    """A type as our files write it: STRUCT<a: INT>, ARRAY<STRING>, DECIMAL(3,2)."""
    from pyspark.sql import types

    if isinstance(kind, types.StructType):
        fields = (f"{f.name}: {type_name(f.dataType)}" for f in kind.fields)
        return f"STRUCT<{', '.join(fields)}>"
    if isinstance(kind, types.ArrayType):
        return f"ARRAY<{type_name(kind.elementType)}>"
    if isinstance(kind, types.MapType):
        return f"MAP<{type_name(kind.keyType)}, {type_name(kind.valueType)}>"
    return kind.simpleString().upper()


def answer(spark, query):
    """`TYPE | value` as the console shows it, or `ERROR [CLASS]`."""
    try:
        frame = spark.sql(query)
        names = ", ".join(type_name(field.dataType) for field in frame.schema.fields)
        shown = frame._jdf.showString(1000, 0, False)
    except Exception as error:  # Whatever Spark says is an answer.
        found = CLASS.search(str(error))
        return f"ERROR [{found.group(1)}]" if found else f"ERROR {str(error).splitlines()[0]}"
    rows = [line[1:-1] for line in shown.splitlines() if line.startswith("|")][1:]
    if len(frame.columns) > 1:
        rows = [" | ".join(cell.strip() for cell in row.split("|")) for row in rows]
    # Rows of a query have no order: ours are in that of their text.
    rows = sorted(row.rstrip() for row in rows)
    return f"{names} | {'; '.join(rows)}"


def differences(spark, path):
    """The lines of a file that Spark answers differently."""
    before = ""
    settings = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        above, before = before, line
        if setting := SETTING.match(line):
            key = setting.group(1)
            key = key if key.startswith("spark.") else f"spark.sql.{key}"
            settings.setdefault(key, spark.conf.get(key, None))
            spark.conf.set(key, setting.group(2))
        if not line.strip() or line[0] in "#@" or above.startswith("# differs:"):
            continue
        question, _, wanted = line.partition(" ==>")
        whole = question.upper().startswith(("SELECT ", "WITH ", "VALUES "))
        found = answer(spark, question if whole else f"SELECT {question} AS c")
        # Trailing blanks of a value cannot be told from the padding of a table.
        if found.rstrip() != wanted.strip():
            yield f"{path.name}:{number}: {question}\n  ours  {wanted.strip()}\n  spark {found}"
    for key, value in settings.items():
        if value is None:
            spark.conf.unset(key)
        else:
            spark.conf.set(key, value)


def main():
    files = sorted(DIRECTORY.glob("*.txt"))
    parts = sys.argv[1:]
    files = [f for f in files if not parts or any(part in f.name for part in parts)]
    spark = spark_session()
    found = 0
    for path in files:
        for difference in differences(spark, path):
            print(difference, flush=True)
            found += 1
    print(f"{found} differences in {len(files)} files")
    spark.stop()
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
