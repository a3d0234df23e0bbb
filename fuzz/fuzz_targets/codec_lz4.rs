#![no_main]

ottla_fuzz::target!(codecs::lz4, reference::LZ4);
