#![no_main]

ottla_fuzz::target!(assignors::assign);
