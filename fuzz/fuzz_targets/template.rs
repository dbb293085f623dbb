//! Fuzz target `template`: see `fuzz/README.md`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    solon_fuzz::check(solon_fuzz::Target::Template, input);
});
