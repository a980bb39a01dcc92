#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = tollgate::yaml::parse(std::str::from_utf8(data).unwrap_or_default()); });
