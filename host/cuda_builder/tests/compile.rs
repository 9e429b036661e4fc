//! Compiles the fixture crate to PTX with whatever rustc this machine has for it.

use std::path::{Path, PathBuf};

use cuda_builder::{BuildError, CudaBuilder, Problem, Ptx};

/// Kept between runs, because a sysroot takes some twenty seconds.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_builder")
}

fn fixture(arch: &str) -> CudaBuilder {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    CudaBuilder::new(here.join("tests/fixture"))
        .source(here.join("../../gpu/cuda_std_macros"))
        .arch(arch)
        .deny_warnings(true)
        .cache_dir(cache())
}

fn compiled(builder: CudaBuilder) -> Ptx {
    builder.build().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_kernel_becomes_an_entry_with_its_bounds() {
    let copy = cache().join("copies/sm_80.ptx");
    let first = compiled(fixture("sm_80").copy_to(&copy));

    for part in [
        ".target sm_80",
        ".visible .entry add(",
        ")\n.maxntid 128, 1, 1\n.minnctapersm 1\n{",
        "mov.u32",
        "st.global",
    ] {
        assert!(first.text.contains(part), "{part} is missing:\n{}", first.text);
    }
    assert!(!first.text.contains("launch_bounds"));
    assert!(first.rustc.starts_with("rustc "));
    for path in [&first.path, &copy] {
        assert_eq!(std::fs::read_to_string(path).unwrap(), first.text);
    }

    // The same inputs again are not even written again.
    let written = |path: &Path| path.metadata().unwrap().modified().unwrap();
    let before = (written(&first.path), written(&copy));
    assert_eq!(compiled(fixture("sm_80").copy_to(&copy)), first);
    assert_eq!((written(&first.path), written(&copy)), before);
}

/// The fixture has one more kernel for this architecture, with a fault.
#[test]
fn another_architecture_is_a_cfg_and_its_generic_store_is_refused() {
    match fixture("sm_90a").line_tables(true).build() {
        Err(BuildError::Lint { path, findings }) => {
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(findings[0].problem, Problem::GenericAddress);
            assert_eq!(findings[0].entry, "generic");

            let text = std::fs::read_to_string(path).unwrap();
            let line = text.lines().nth(findings[0].line - 1).unwrap();
            assert!(line.contains(&findings[0].text));
            // The target is not marked `debug`; the last is 90.0 as an f32.
            for part in [".target sm_90a\n", "\t.loc\t", "0f42B40000"] {
                assert!(text.contains(part), "{part} is missing:\n{text}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_built_says_why() {
    let unknown = fixture("sm_1").build().unwrap_err().to_string();
    assert!(unknown.contains("sm_1") && unknown.contains("sm_90a"));
    let nowhere = CudaBuilder::new("nowhere").build().unwrap_err().to_string();
    assert!(nowhere.contains("nowhere"), "{nowhere}");
}
