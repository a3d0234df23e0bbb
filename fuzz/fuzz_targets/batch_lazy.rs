#![no_main]

ottla_fuzz::target!(batches::lazy);
