#![no_main]

ottla_fuzz::target!(messages::response_both_ways);
