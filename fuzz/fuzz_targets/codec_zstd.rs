#![no_main]

ottla_fuzz::target!(codecs::zstd, reference::ZSTD);
