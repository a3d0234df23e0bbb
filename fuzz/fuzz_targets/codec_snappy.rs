#![no_main]

ottla_fuzz::target!(codecs::snappy);
