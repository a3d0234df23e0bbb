//! Benchmarks of ottla against the floor and its peers.
