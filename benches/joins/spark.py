#!/usr/bin/env python3
"""A query of queries/ on Spark, on two cores: prints the seconds from its start to its end, without the start of the
process, and the most memory that its heap held, in megabytes. Needs Java 17 and PySpark 4. Run from where run.sh made its data:

    python3 spark.py interval
"""

import shutil
import sys
import time

from pyspark.sql import SparkSession

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
tables = {
    "shown": "id STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE",
    "clicked": "id STRING, timestamp TIMESTAMP, button STRING",
}
for table, schema in tables.items():
    rows = spark.readStream.schema(schema).option("maxFilesPerTrigger", 1).json(table)
    rows.withWatermark("timestamp", "20 minutes").createOrReplaceTempView(table)
spark.read.schema("page_url STRING, title STRING").json("pages").createOrReplaceTempView("pages")
checkpoint = f"checkpoint/spark_{name}"
shutil.rmtree(checkpoint, ignore_errors=True)
began = time.monotonic()
writer = spark.sql(open(f"queries/{name}.sql").read()).writeStream.outputMode("append").format("noop")
writer.option("checkpointLocation", checkpoint).trigger(availableNow=True).start().awaitTermination()
seconds = time.monotonic() - began
pools = spark.sparkContext._jvm.java.lang.management.ManagementFactory.getMemoryPoolMXBeans()
heap = sum(pool.getPeakUsage().getUsed() for pool in pools if pool.getType().name() == "HEAP")
print(f"{seconds:.2f} {heap / 1e6:.0f}")
spark.stop()
