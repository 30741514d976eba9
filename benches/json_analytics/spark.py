#!/usr/bin/env python3
"""A query of queries/ on Spark, on two cores: prints the seconds from its start to its end, without the start of the
process. Needs Java 17 and PySpark 4 (pip install 'pyspark==4.*'). Run from where run.sh made its data:

    python3 spark.py by_type
"""

import re
import shutil
import sys
import time

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

name = sys.argv[1]
text = open(f"queries/{name}.sql").read()
source, sink, mode = re.search(r"^-- from (\w+) to (\w+), (\w+)$", text, re.M).groups()
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.sql.shuffle.partitions", 2)
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.driver.memory", "4g")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
(
    spark.readStream.schema(
        "event_id STRING, user_id STRING, event_type STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE"
    )
    .option("maxFilesPerTrigger", 1)
    .format(source)
    .load({"json": "data"}.get(source, source))
    .withWatermark("timestamp", "10 minutes")
    .createOrReplaceTempView("events")
)
checkpoint, output = f"checkpoint/spark_{name}", f"out/spark_{name}"
for directory in (checkpoint, output):
    shutil.rmtree(directory, ignore_errors=True)
began = time.monotonic()
try:
    writer = spark.sql(text).writeStream.outputMode(mode).format(sink).option("checkpointLocation", checkpoint)
    query = writer.trigger(availableNow=True).start(None if sink == "noop" else output)
except AnalysisException as error:
    print("refused:", error.getCondition())
    sys.exit()
query.awaitTermination()
print(f"{time.monotonic() - began:.2f}")
spark.stop()
