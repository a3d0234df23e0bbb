//! What every fuzz target is made of. The oracles are in `ottla_tests::fuzz`, where tests call them too.
#![deny(unsafe_code)]

pub mod reference;

#[doc(hidden)]
pub use {libfuzzer_sys, ottla_tests};

/// The binary of a target: the counting allocator, and an oracle of `ottla_tests::fuzz` under the fuzzer; with a
/// reference implementation if the oracle is that of a codec.
#[macro_export]
macro_rules! target {
    ($module:ident::$oracle:ident $(, $reference:path)?) => {
        #[global_allocator]
        static ALLOCATOR: $crate::ottla_tests::heap::Counting = $crate::ottla_tests::heap::Counting;

        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            use $crate::*;
            ottla_tests::fuzz::$module::$oracle(data $(, Some(&$reference))?)
        });
    };
}
