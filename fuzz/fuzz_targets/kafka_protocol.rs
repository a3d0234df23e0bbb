#![no_main]

ottla_fuzz::target!(messages::against_kafka_protocol);
