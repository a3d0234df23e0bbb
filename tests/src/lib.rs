//! Suites that run on the embedded broker and on real Kafka, the vector suite and (later) the simulator.
