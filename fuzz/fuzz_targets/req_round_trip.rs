#![no_main]

ottla_fuzz::target!(messages::request_both_ways);
