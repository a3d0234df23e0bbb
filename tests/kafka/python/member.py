"""A librdkafka consumer in a group that tells what happens to it, one JSON object a line.

The same protocol as java/ottla/GroupMember.java: it prints assigned, revoked, lost, records, committed,
commit_failed, error and closed; it obeys the lines commit, pause, resume and close; the end of standard input ends it
at once, without leaving the group.
"""

import json
import os
import queue
import sys
import threading

from confluent_kafka import Consumer, KafkaError, KafkaException


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def pairs(partitions):
    return [[p.topic, p.partition] for p in partitions]


def read(commands):
    for line in sys.stdin:
        commands.put(line.strip())
    os._exit(137)


def commit(consumer):
    try:
        consumer.commit(asynchronous=False)
        tell("committed")
    except KafkaException as e:
        if e.args[0].code() == KafkaError._NO_OFFSET:
            tell("committed")
        else:
            tell("commit_failed", error=str(e))


def main():
    config = json.loads(sys.argv[1])
    mode = config.get("commit", "auto")
    settings = {
        "bootstrap.servers": config["bootstrap"],
        "group.id": config["group"],
        "auto.offset.reset": "earliest",
        "enable.auto.commit": mode == "auto",
        **config.get("properties", {}),
    }
    commands = queue.Queue()
    threading.Thread(target=read, args=(commands,), daemon=True).start()
    consumer = Consumer(settings)
    paused = False

    def assigned(_, partitions):
        tell("assigned", partitions=pairs(partitions))

    consumer.subscribe(
        config["topics"],
        on_assign=assigned,
        on_revoke=lambda _, partitions: tell("revoked", partitions=pairs(partitions)),
        on_lost=lambda _, partitions: tell("lost", partitions=pairs(partitions)),
    )
    while True:
        while not commands.empty():
            command = commands.get()
            if command == "commit":
                commit(consumer)
            elif command == "pause":
                paused = True
            elif command == "resume":
                paused = False
                consumer.resume(consumer.assignment())
            elif command == "close":
                consumer.close()
                tell("closed")
                return
            else:
                tell("error", error="unknown " + command)
        if paused:
            consumer.pause(consumer.assignment())
        runs = {}
        for message in consumer.consume(500, 0.1):
            if message.error():
                if message.error().fatal():
                    tell("error", error=str(message.error()))
                    os._exit(1)
                continue
            run = runs.setdefault((message.topic(), message.partition()), [message.offset(), 0, 0])
            run[1] = message.offset()
            run[2] += 1
        for (topic, partition), (first, last, count) in runs.items():
            tell("records", topic=topic, partition=partition, first=first, last=last, count=count)
        if mode == "poll" and runs:
            commit(consumer)


if __name__ == "__main__":
    main()
