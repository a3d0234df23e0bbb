#![no_main]

ottla_fuzz::target!(admin::administrator);
