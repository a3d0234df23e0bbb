#![no_main]

ottla_fuzz::target!(codecs::gzip, reference::GZIP);
