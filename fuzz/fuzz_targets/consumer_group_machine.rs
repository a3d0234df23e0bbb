#![no_main]

ottla_fuzz::target!(consumer_group::member);
