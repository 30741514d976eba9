#!/usr/bin/env python3
"""The query on Spark, on two cores, from the topic that run.sh has filled: prints the seconds from its start to its end,
without the start of the process.

    python3 spark.py SERVERS JARS QUERY.sql
"""

import glob
import shutil
import sys
import time

from pyspark.sql import SparkSession

servers, jars, path = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.sql.shuffle.partitions", 2)
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.driver.memory", "4g")
    .config("spark.ui.enabled", "false")
    .config("spark.jars", ",".join(glob.glob(f"{jars}/*.jar")))
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
columns = "event_id STRING, user_id STRING, event_type STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE"
(
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", servers)
    .option("subscribe", "events")
    .option("startingOffsets", "earliest")
    .option("maxOffsetsPerTrigger", 250_000)
    .option("kafka.isolation.level", "read_committed")
    .load()
    .selectExpr(f"from_json(CAST(value AS STRING), '{columns}') AS e")
    .select("e.*")
    .withWatermark("timestamp", "10 minutes")
    .createOrReplaceTempView("events")
)
shutil.rmtree("spark_checkpoint", ignore_errors=True)
began = time.monotonic()
writer = spark.sql(open(path).read()).writeStream.outputMode("update").format("noop")
query = writer.option("checkpointLocation", "spark_checkpoint").trigger(availableNow=True).start()
query.awaitTermination()
rows = sum(progress["numInputRows"] for progress in query.recentProgress)
assert rows == 5_000_000, rows
print(f"{time.monotonic() - began:.2f}")
spark.stop()
