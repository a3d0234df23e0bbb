#![no_main]

ottla_fuzz::target!(transactions::read_committed);
