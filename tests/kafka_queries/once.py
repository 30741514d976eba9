#!/usr/bin/env python3
"""Looks at a topic from outside, with another client library: pip install confluent-kafka, then

    python3 tests/kafka_queries/once.py BOOTSTRAP_SERVERS TOPIC COUNT

Reads what is committed of records {"id":N} and exits with 1 unless each id from 0 to COUNT - 1 is
there once. The long form of the kill test calls it.
"""
import collections
import json
import sys
import time

PATIENCE = 60


def main():
    try:
        import confluent_kafka as kafka
    except ImportError:
        sys.exit("confluent-kafka is not there: pip install confluent-kafka")
    servers, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    consumer = kafka.Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "once",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
    beginning = [kafka.TopicPartition(topic, p, kafka.OFFSET_BEGINNING) for p in partitions]
    consumer.assign(beginning)
    found, ended, until = collections.Counter(), set(), time.monotonic() + PATIENCE
    while len(ended) < len(partitions):
        if time.monotonic() > until:
            sys.exit(f"cannot read {topic} to its end")
        for record in consumer.consume(10_000, timeout=1):
            if record.error() is None:
                found[json.loads(record.value())["id"]] += 1
            elif record.error().code() == kafka.KafkaError._PARTITION_EOF:
                ended.add(record.partition())
    consumer.close()
    missing = count - sum(1 for identity in found if 0 <= identity < count)
    twice = sum(1 for times in found.values() if times > 1)
    print(f"confluent-kafka {kafka.version()}: {found.total()} records, {missing} ids missing, {twice} twice")
    sys.exit(1 if missing or twice or found.total() != count else 0)


if __name__ == "__main__":
    main()
