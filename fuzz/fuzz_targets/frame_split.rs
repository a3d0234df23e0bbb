#![no_main]

ottla_fuzz::target!(frames::split);
