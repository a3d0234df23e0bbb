#![no_main]

ottla_fuzz::target!(batches::v2);
