#![no_main]

ottla_fuzz::target!(messages::between_members);
