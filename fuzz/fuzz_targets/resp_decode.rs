#![no_main]

ottla_fuzz::target!(messages::decode_response);
