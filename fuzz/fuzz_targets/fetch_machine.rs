#![no_main]

ottla_fuzz::target!(bytes::answers);
