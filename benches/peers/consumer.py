"""confluent-kafka (librdkafka) in a benchmark: reads the topic of a job once without counting and then as often as the
job says, and prints what that cost, as the clients in benches/ do."""

import json
import os
import resource
import sys
import time

from confluent_kafka import Consumer, TopicPartition

started = time.perf_counter()
job = json.loads(sys.argv[1])
fetch = job["fetch_bytes"]
consumer = Consumer(
    {
        "bootstrap.servers": job["bootstrap"],
        "group.id": "bench",
        "isolation.level": "read_uncommitted",
        "check.crcs": True,
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": job["max_wait_ms"],
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "fetch.max.bytes": fetch,
        "fetch.message.max.bytes": fetch,
        "message.max.bytes": 1000000,
    }
)
records = size = checksum = 0
first = begin = None


def now():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime, time.perf_counter()


for turn in range(job["passes"] + 1):
    if turn == 1:
        begin = now()
        records = size = checksum = 0
    consumer.assign([TopicPartition(job["topic"], p, 0) for p in range(job["partitions"])])
    end = records + job["records"]
    while records < end:
        messages = consumer.consume(min(10000, end - records), 20)
        if not messages:
            raise SystemExit("nothing comes")
        if first is None:
            first = time.perf_counter() - started
        for message in messages:
            key = message.key()
            value = message.value()
            length = 0 if key is None else len(key)
            records += 1
            size += length + len(value)
            checksum += length + value[0] + (value[-1] << 8)

finish = now()
with open("/proc/self/status") as status:
    rss = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
result = {
    "records": records,
    "bytes": size,
    "checksum": checksum,
    "wall_ns": int((finish[2] - begin[2]) * 1e9),
    "user_ns": int((finish[0] - begin[0]) * 1e9),
    "system_ns": int((finish[1] - begin[1]) * 1e9),
    "peak_rss_kib": rss,
    "first_record_ns": int(first * 1e9),
}
print(json.dumps(result), flush=True)
os._exit(0)
