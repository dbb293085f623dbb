//! `SOLON_ISA`: which instruction set the kernels use.

use std::process::{Command, Output};

fn doctor(isa: &str) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut solon = Command::new(env!("CARGO_BIN_EXE_solon"));
    solon.args(["doctor", "--json"]).env("HOME", home.path()).env("SOLON_ISA", isa).output().unwrap()
}

#[test]
fn a_mistyped_instruction_set_is_refused_and_the_known_ones_are_named() {
    let output = doctor("avx-2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    for part in ["\"avx-2\"", "avx512bf16, avx512, avx2, portable", "hint: ", "SOLON_ISA"] {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn each_instruction_set_that_doctor_lists_is_taken() {
    let report = |isa: &str| -> serde_json::Value {
        let output = doctor(isa);
        assert!(output.status.success(), "{isa}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let usable = report("portable")["usable_isas"].as_array().unwrap().clone();
    assert!(usable.contains(&"portable".into()));
    for isa in usable {
        assert_eq!(report(isa.as_str().unwrap())["isa"], isa);
    }
}
