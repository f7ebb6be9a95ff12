"""The job that a tutorial writes: `from_json`, `PipelineModel.transform` and a `foreachBatch` that writes to Kafka, Spark's own defaults.

python -m benchmarks.systems.foreach_batch SERVERS EVENTS OUT FOLDER HOME TRIGGER
"""

from __future__ import annotations

import os
import sys

from benchmarks.systems.base import Script, place

FOREACH_BATCH = Script("Spark foreachBatch, as a tutorial writes it", "foreach_batch")


def main() -> None:
    """Score until told to stop."""
    from pyspark.ml import PipelineModel
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import functions as F

    from streaming.demo import churn
    from streaming.runtime import jars

    at = place(sys.argv[1:])
    builder = SparkSession.builder.appName("tutorial").master("local[*]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.extraClassPath", os.pathsep.join(str(path) for path in jars.resolve("spark")))
    spark = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.memory", "2g").getOrCreate()
    model = PipelineModel.load(str(at.home / "model"))
    event = F.from_json(F.col("value").cast("string"), churn.EVENT_DDL).alias("event")
    events = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", at.servers)
        .option("subscribe", at.events)
        .option("startingOffsets", "earliest")
        .load()
        .select(event, F.concat_ws(":", "topic", "partition", "offset").alias("event_id"))
        .select("event.*", "event_id")
    )
    fields = [
        "event_id", F.col("customer_id").alias("key"), "event_time", F.lit("churn").alias("model"), F.lit("1").alias("model_version"),
        "prediction", vector_to_array("probability").alias("probability"),
    ]  # fmt: skip

    def write(batch: DataFrame, _: int) -> None:
        answers = model.transform(batch).select(F.col("customer_id").alias("key"), F.to_json(F.struct(*fields)).alias("value"))
        answers.write.format("kafka").option("kafka.bootstrap.servers", at.servers).option("topic", at.out).save()

    events.writeStream.foreachBatch(write).option("checkpointLocation", str(at.folder / "checkpoint")).start().awaitTermination()


if __name__ == "__main__":
    main()
