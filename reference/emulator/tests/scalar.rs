//! Every scalar instruction form against the H200, bit for bit: 2048 inputs each, special values and
//! all their pairs first.
//!
//! `goldens/scalar_h200.txt` has one line per form, a hash of the outputs that the GPU gave and the form.
//! To make it anew: `SCALAR_DIR=dir cargo test -p ptx_emulator --test scalar` writes `scalar.ptx` (entries
//! `k0`, `k1`, ... with four buffers a, b, c, out of 2048 64-bit words; grid 16, block 128) and
//! `inputs.bin` (a, b, c of k0, then of k1, ...); launch them on the GPU and hash as [`hash`] does.
//! Approximate functions are not here: hardware's last bits are its own.

mod scalar_cases;

use ptx_emulator::{Launch, Memory, Module};
use scalar_cases::{COUNT, Case, cases};

const HEAD: &str = ".version 8.6\n.target sm_90a\n.address_size 64\n";
const GOLDENS: &str = include_str!("goldens/scalar_h200.txt");

/// FNV-1a of the outputs' little-endian bytes.
fn hash(outputs: &[u64]) -> u64 {
    let bytes = outputs.iter().flat_map(|word| word.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn kernel(index: usize, case: &Case) -> String {
    let mut text = format!(
        ".visible .entry k{index}(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 out) {{
        .reg .b32 %i, %n, %t; .reg .b64 %at, %to, %word; .reg .b{bits} %D;
        mov.u32 %i, %ctaid.x; mov.u32 %n, %ntid.x; mov.u32 %t, %tid.x;
        mad.lo.u32 %i, %i, %n, %t; mul.wide.u32 %at, %i, 8;\n",
        bits = case.out.bits()
    );
    for (name, class) in ["A", "B", "C"].iter().zip(&case.sources) {
        let (bits, param) = (class.bits(), name.to_lowercase());
        let narrow = match bits {
            64 => format!("mov.b64 %{name}, %w{name};"),
            _ => format!("cvt.u{bits}.u64 %{name}, %w{name};"),
        };
        text += &format!(
            ".reg .b{bits} %{name}; .reg .b64 %p{name}, %w{name}; ld.param.u64 %p{name}, [{param}];
            add.u64 %p{name}, %p{name}, %at; ld.global.u64 %w{name}, [%p{name}]; {narrow}\n"
        );
    }
    // A, B, C, D standing alone are registers.
    let mut previous = ' ';
    let letters: Vec<char> = case.form.chars().collect();
    for (i, &letter) in letters.iter().enumerate() {
        let next = letters.get(i + 1).copied().unwrap_or(' ');
        let alone = !previous.is_alphanumeric() && !next.is_alphanumeric() && previous != '.';
        if alone && ('A'..='D').contains(&letter) {
            text.push('%');
        }
        text.push(letter);
        previous = letter;
    }
    let widen = match case.out.bits() {
        64 => "mov.b64 %word, %D;".to_owned(),
        bits => format!("cvt.u64.u{bits} %word, %D;"),
    };
    text + &format!(
        "\nld.param.u64 %to, [out]; add.u64 %to, %to, %at; {widen} st.global.u64 [%to], %word; ret;\n}}\n"
    )
}

#[test]
fn agrees_with_hardware() {
    let cases = cases();
    let kernels: Vec<String> = cases.iter().enumerate().map(|(i, case)| kernel(i, case)).collect();
    let text = format!("{HEAD}{}", kernels.concat());
    let inputs = |case: &Case| -> Vec<Vec<u64>> {
        case.sources.iter().enumerate().map(|(slot, class)| class.inputs(slot)).collect()
    };
    if let Some(folder) = std::env::var_os("SCALAR_DIR") {
        let folder = std::path::Path::new(&folder);
        std::fs::write(folder.join("scalar.ptx"), &text).unwrap();
        let all = cases.iter().flat_map(|case| {
            let mut words = inputs(case);
            words.resize(3, vec![0; COUNT]);
            words.concat()
        });
        let bytes: Vec<u8> = all.flat_map(u64::to_le_bytes).collect();
        std::fs::write(folder.join("inputs.bin"), bytes).unwrap();
        let forms: Vec<String> = cases.iter().map(|case| format!("{}\n", case.form)).collect();
        std::fs::write(folder.join("forms.txt"), forms.concat()).unwrap();
    }
    let module = Module::parse(&text).unwrap();
    let mut goldens = GOLDENS.lines();
    let mut wrong = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let memory = Memory::new();
        let out = memory.alloc(COUNT * 8);
        let mut launch = Launch::new(format!("k{index}")).grid([16, 1, 1]).block([128, 1, 1]);
        let sources = inputs(case);
        for slot in 0..3 {
            launch = launch.arg(sources.get(slot).map_or(0, |words| memory.upload(words)));
        }
        let report = launch.arg(out).run(&module, &memory).unwrap();
        assert_eq!(report.findings, [], "{}", case.form);
        let got = hash(&memory.download::<u64>(out, COUNT).unwrap());
        let line = format!("{got:016x} {}", case.form);
        if goldens.next() != Some(&line) {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), cases.len());
    assert_eq!(goldens.next(), None);
}
