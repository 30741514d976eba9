#!/usr/bin/env python3
"""The same queries on Spark, on two cores: prints the seconds from a query's start to its end, without the start of
the process. Needs Java 17 and PySpark 4 (pip install 'pyspark==4.*'). Run from where run.sh made its data:

    python3 spark.py by_type|by_user
"""

import builtins
import shutil
import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql.functions import approx_count_distinct, count, sum, window

name = sys.argv[1]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.sql.shuffle.partitions", 2)
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.driver.memory", "4g")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
events = (
    spark.readStream.schema(
        "event_id STRING, user_id STRING, event_type STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE"
    )
    .option("maxFilesPerTrigger", 1)
    .json("data")
    .withWatermark("timestamp", "10 minutes")
)
of_window = window("timestamp", "5 minutes")
counts = [count("*").alias("n"), sum("amount").alias("amount")]
if name == "by_type":
    result = events.groupBy(of_window, "event_type").agg(*counts, approx_count_distinct("user_id").alias("users"))
elif name == "by_user":
    result = events.groupBy(of_window, "user_id").agg(*counts)
else:
    sys.exit(f"no query is called {name}: by_type or by_user")
checkpoint = f"checkpoint/spark_{name}"
shutil.rmtree(checkpoint, ignore_errors=True)
began = time.monotonic()
query = (
    result.writeStream.outputMode("update")
    .format("noop")
    .option("checkpointLocation", checkpoint)
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
seconds = time.monotonic() - began
rows = builtins.sum(progress["numInputRows"] for progress in query.recentProgress)
print(f"{seconds:.2f} s streaming, {rows} rows, {rows / seconds / 1e6:.2f} million rows/s")
spark.stop()
