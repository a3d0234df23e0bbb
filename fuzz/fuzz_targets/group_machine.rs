#![no_main]

ottla_fuzz::target!(group::member);
