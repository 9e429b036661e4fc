//! mma.sync, mma.sp, wmma, ldmatrix and stmatrix against plain products of small integers.

mod tensor_support;

use ptx_emulator::FindingKind;
use tensor_support::*;

/// The value of a 16x8 accumulator's element in output words `[register][lane]`.
fn accumulators(words: &[u32], f16_sums: bool) -> Matrix {
    let mut out = Matrix::zeros(16, 8);
    for lane in 0..32u32 {
        for i in 0..4u32 {
            let (row, column) = layout::fragment::accumulator(lane, i);
            let at = row as usize * 8 + column as usize;
            out.values[at] = if f16_sums {
                let word = words[(i / 2 * 32 + lane) as usize];
                half::f16::from_bits((word >> (16 * (i % 2))) as u16).to_f64()
            } else {
                f32::from_bits(words[(i * 32 + lane) as usize]).into()
            };
        }
    }
    out
}

/// Words of a 16x8 accumulator.
fn accumulator_words(c: &Matrix, f16_sums: bool) -> Vec<u32> {
    if f16_sums {
        return fragment(2, false, c, layout::fragment::accumulator);
    }
    let one = |lane, i| {
        let (row, column) = layout::fragment::accumulator(lane, i);
        (c.at(row as usize, column as usize) as f32).to_bits()
    };
    (0..4).flat_map(|i| (0..32).map(move |lane| one(lane, i))).collect()
}

struct Mma {
    case: Case,
    expected: Matrix,
    f16_sums: bool,
}

impl Mma {
    fn check(&self) {
        let outs = self.case.outputs();
        assert_eq!(accumulators(&words_of(&outs[0]), self.f16_sums), self.expected);
    }
}

fn mma(k: usize, bf16: bool, f16_sums: bool) -> Mma {
    let mut numbers = Numbers::new(k as u64);
    let (a, b, c) = (numbers.matrix(16, k), numbers.matrix(k, 8), numbers.matrix(16, 8));
    let mut words = fragment(k as u32 / 4, bf16, &a, layout::fragment::a);
    words.extend(fragment(k as u32 / 8, bf16, &b, layout::fragment::b));
    words.extend(accumulator_words(&c, f16_sums));
    let (ra, rb, rc) = (k / 4, k / 8, if f16_sums { 2 } else { 4 });
    let (operand, sum) = (if bf16 { "bf16" } else { "f16" }, if f16_sums { "f16" } else { "f32" });
    let body = format!(
        "mma.sync.aligned.m16n8k{k}.row.col.{sum}.{operand}.{operand}.{sum} {}, {}, {}, {};",
        vector("%s", 0, rc),
        vector("%r", 0, ra),
        vector("%r", ra, rb),
        vector("%r", ra + rb, rc)
    );
    let ptx = register_kernel(ra + rb + rc, rc, 32, &body);
    let case = Case::new(format!("mma_k{k}_{operand}_{sum}"), ptx, 32, 0)
        .arg(Arg::In(bytes_of(&words)))
        .arg(Arg::Out(128 * rc));
    Mma { case, expected: a.times(&b, &c), f16_sums }
}

#[test]
fn dense_products() {
    for k in [8, 16] {
        for (bf16, f16_sums) in [(false, false), (false, true), (true, false)] {
            mma(k, bf16, f16_sums).check();
        }
    }
}

fn mma_sp(k: usize, selector: usize, bf16: bool, f16_sums: bool, ordered: bool) -> Mma {
    let mut numbers = Numbers::new((k + selector) as u64);
    let sparse = sparse(&mut numbers, 16, 64);
    let (b, c) = (numbers.matrix(k, 8), numbers.matrix(16, 8));
    let part = |m: &Matrix, columns: usize| {
        let mut out = Matrix::zeros(16, columns);
        for row in 0..16 {
            for column in 0..columns {
                out.values[row * columns + column] = m.at(row, selector * columns + column);
            }
        }
        out
    };
    let (dense, kept) = (part(&sparse.dense, k), part(&sparse.kept, k / 2));
    let (ra, rb, rc) = (k / 8, k / 8, if f16_sums { 2 } else { 4 });
    let mut words = fragment(ra as u32, bf16, &kept, layout::fragment::a);
    words.extend(fragment(rb as u32, bf16, &b, layout::fragment::b));
    words.extend(accumulator_words(&c, f16_sums));
    words.extend(&sparse.metadata);
    let (operand, sum) = (if bf16 { "bf16" } else { "f16" }, if f16_sums { "f16" } else { "f32" });
    let suffix = if ordered { "::ordered_metadata" } else { "" };
    let body = format!(
        "mma.sp{suffix}.sync.aligned.m16n8k{k}.row.col.{sum}.{operand}.{operand}.{sum} {}, {}, {}, {}, \
         %r{}, {selector};",
        vector("%s", 0, rc),
        vector("%r", 0, ra),
        vector("%r", ra, rb),
        vector("%r", ra + rb, rc),
        ra + rb + rc
    );
    let ptx = register_kernel(ra + rb + rc + 1, rc, 32, &body);
    let order = if ordered { "_ordered" } else { "" };
    let case = Case::new(format!("mma_sp_k{k}_{selector}_{operand}_{sum}{order}"), ptx, 32, 0)
        .arg(Arg::In(bytes_of(&words)))
        .arg(Arg::Out(128 * rc));
    Mma { case, expected: dense.times(&b, &c), f16_sums }
}

#[test]
fn sparse_products() {
    for (k, selectors) in [(16, 4), (32, 2)] {
        for selector in 0..selectors {
            for (bf16, f16_sums) in [(false, false), (false, true), (true, false)] {
                mma_sp(k, selector, bf16, f16_sums, true).check();
            }
            mma_sp(k, selector, false, false, false).check();
        }
    }
}

#[test]
fn illegal_metadata_names_lane_and_group() {
    let Mma { mut case, .. } = mma_sp(32, 1, false, false, true);
    let Arg::In(bytes) = &mut case.args[0] else { panic!() };
    // Lane 4*3+2 supplies columns 32..47 of rows 3 and 11: its second nibble of row 11 becomes (2, 1).
    let at = bytes.len() - 128 + 4 * 14;
    let word = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let word = word & !(0xf << 20) | 0b0110 << 20;
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    case.finds(FindingKind::Illegal, "nibble 0x6 of lane 14, group 1 of row 11");
    // The other selector does not look at that lane.
    assert!(case.with("%r12, 1;", "%r12, 0;").findings(0).is_empty());
    // Without `ordered_metadata` only equal positions are illegal.
    let plain = case.with("::ordered_metadata", "");
    assert!(plain.findings(0).is_empty());
    let Arg::In(bytes) = &mut case.args[0] else { panic!() };
    bytes[at + 2] |= 0xf0;
    case.with("::ordered_metadata", "").finds(FindingKind::Illegal, "nibble 0xf of lane 14");
}

#[test]
fn a_partial_warp_is_divergent() {
    let Mma { case, .. } = mma(16, false, false);
    let case = case.with("mma.sync", "setp.lt.u32 %p0, %t0, 16;\n@%p0 mma.sync");
    case.finds(FindingKind::Divergence, "mma.sync needs the whole warp, lanes 0xffff0000");
}

#[test]
fn poison_stays_in_its_row() {
    let Mma { case, .. } = mma(16, false, false);
    // a1 (rows 8..15) of lanes 20..23 (row 13) is never loaded.
    let case = case.with(
        "ld.global.b32 %r1,",
        "setp.lt.u32 %p0, %t0, 20;\nsetp.gt.u32 %p1, %t0, 23;\nor.pred %p2, %p0, %p1;\n\
         @%p2 ld.global.b32 %r1,",
    );
    let findings = case.findings(0);
    assert_eq!(findings.len(), 2, "{findings:?}");
    // Registers 2 and 3 are stored by the four lanes of the row each.
    assert!(
        findings.iter().all(|(kind, m)| *kind == FindingKind::Poison && m.contains("(4 times)"))
    );
}

/// Loads and multiplies 16x16, 32x8 or 8x32 fragments from shared (or generic, global) memory.
fn wmma(
    shape: (usize, usize),
    bf16: bool,
    f16_sums: bool,
    layouts: [&str; 3],
    space: &str,
) -> Case {
    let (m, n) = shape;
    let mut numbers = Numbers::new((m * n) as u64);
    let (a, b, c) = (numbers.matrix(m, 16), numbers.matrix(16, n), numbers.matrix(m, n));
    let expected = a.times(&b, &c);
    let operand = if bf16 { "bf16" } else { "f16" };
    let sum = if f16_sums { "f16" } else { "f32" };
    let lay = |matrix: &Matrix, layout: &str, stride: usize, bytes: &dyn Fn(f64) -> Vec<u8>| {
        let (rows, columns) = (matrix.rows(), matrix.columns);
        let outer = if layout == "row" { rows } else { columns };
        let mut out = Vec::new();
        for i in 0..outer {
            for j in 0..stride {
                let (row, column) = if layout == "row" { (i, j) } else { (j, i) };
                let inside = row < rows && column < columns;
                out.extend(bytes(if inside { matrix.at(row, column) } else { 99.0 }));
            }
        }
        out
    };
    let half = |v: f64| half_bits(v, bf16).to_le_bytes().to_vec();
    let full = |v: f64| {
        if f16_sums {
            half_bits(v, false).to_le_bytes().to_vec()
        } else {
            (v as f32).to_le_bytes().to_vec()
        }
    };
    let stride = 40;
    let mut image = lay(&a, layouts[0], stride, &half);
    image.resize(3072, 0);
    image.extend(lay(&b, layouts[1], stride, &half));
    image.resize(6144, 0);
    image.extend(lay(&c, layouts[2], stride, &full));
    image.resize(12288, 0);
    let count = |operand: &str, matrix: usize| match (operand, bf16) {
        ("half", false) => 8,
        ("half", true) => matrix * 16 * 2 / 128,
        _ => m * n * if f16_sums { 2 } else { 4 } / 128,
    };
    let (ra, rb, rc) = (count("half", m), count("half", n), count("sum", 0));
    let shape = format!("m{m}n{n}k16");
    let (prefix, suffix) = match space {
        "shared" => (".shared", "%r"),
        "global" => (".global", "%g"),
        _ => ("", "%g"),
    };
    let address = |at: usize| format!("[{suffix}{}]", at);
    let bases = match space {
        "global" => {
            "add.s64 %g0, %a0, 0;\nadd.s64 %g1, %a0, 3072;\nadd.s64 %g2, %a0, 6144;\n\
                     add.s64 %g3, %a1, 0;\n"
        }
        "shared" => "",
        _ => {
            "cvt.u64.u32 %g0, %r0;\ncvta.shared.u64 %g0, %g0;\nadd.s64 %g1, %g0, 3072;\n\
              add.s64 %g2, %g0, 6144;\nadd.s64 %g3, %g0, 6144;\n"
        }
    };
    let types = if bf16 { "f32.bf16.bf16.f32".to_owned() } else { format!("{sum}.{sum}") };
    let body = format!(
        ".reg .b32 %r<8>; .reg .b32 %v<64>; .reg .b64 %a<8>; .reg .b64 %g<8>; .reg .b32 %t<8>;\n\
         .reg .pred %p<4>;\n\
         ld.param.u64 %a0, [in];\nld.param.u64 %a1, [out];\nmov.u32 %t0, %tid.x;\n\
         mov.u32 %r0, smem;\nadd.u32 %r1, %r0, 3072;\nadd.u32 %r2, %r0, 6144;\n\
         add.u32 %r3, %r0, 6144;\n{bases}{}\
         wmma.load.a.sync.aligned.{}.{shape}{prefix}.{operand} {}, {}, {stride};\n\
         wmma.load.b.sync.aligned.{}.{shape}{prefix}.{operand} {}, {}, {stride};\n\
         wmma.load.c.sync.aligned.{}.{shape}{prefix}.{sum} {}, {}, {stride};\n\
         wmma.mma.sync.aligned.{}.{}.{shape}.{types} {}, {}, {}, {};\n\
         wmma.store.d.sync.aligned.row.{shape}{prefix}.{sum} {}, {};\n{}",
        copy("%a0", "smem", 12288, true),
        layouts[0],
        vector("%v", 0, ra),
        address(0),
        layouts[1],
        vector("%v", ra, rb),
        address(1),
        layouts[2],
        vector("%v", ra + rb, rc),
        address(2),
        layouts[0],
        layouts[1],
        vector("%v", ra + rb, rc),
        vector("%v", 0, ra),
        vector("%v", ra, rb),
        vector("%v", ra + rb, rc),
        address(3),
        vector("%v", ra + rb, rc),
        if space == "global" { String::new() } else { copy("%a1", "smem+6144", m * n * 4, false) },
    );
    let name = format!("wmma_{shape}_{operand}_{sum}_{}_{space}", layouts.join("_"));
    let ptx = module(".param .u64 in, .param .u64 out", &body);
    let case = Case::new(name, ptx, 32, 12288).arg(Arg::In(image)).arg(Arg::Out(m * n * 4));
    let bytes = &case.outputs()[0];
    for (i, value) in expected.values.iter().enumerate() {
        let got = if f16_sums {
            half::f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f64()
        } else {
            f32::from_bits(words_of(bytes)[i]).into()
        };
        assert_eq!(got, *value, "{} element {i}", case.name);
    }
    case
}

/// Copies `bytes` between global memory at a register and a shared symbol, by 32 threads.
fn copy(global: &str, shared: &str, bytes: usize, load: bool) -> String {
    let mut out = String::from("bar.sync 0;\nmul.wide.u32 %a5, %t0, 16;\n");
    out +=
        &format!("add.s64 %a6, {global}, %a5;\nmul.lo.u32 %t2, %t0, 16;\nmov.u32 %t1, {shared};\n");
    out += "add.u32 %t2, %t2, %t1;\n";
    for at in (0..bytes).step_by(512) {
        let moves = if load {
            format!(
                "ld.global.v4.b32 {{%t4,%t5,%t6,%t7}}, [%a6+{at}];\n\
                 st.shared.v4.b32 [%t2+{at}], {{%t4,%t5,%t6,%t7}};\n"
            )
        } else {
            format!(
                "ld.shared.v4.b32 {{%t4,%t5,%t6,%t7}}, [%t2+{at}];\n\
                 st.global.v4.b32 [%a6+{at}], {{%t4,%t5,%t6,%t7}};\n"
            )
        };
        out += &moves;
    }
    out + "bar.sync 0;\n"
}

#[test]
fn wmma_products() {
    for shape in [(16, 16), (32, 8), (8, 32)] {
        for (bf16, f16_sums) in [(false, false), (false, true), (true, false)] {
            wmma(shape, bf16, f16_sums, ["row", "col", "row"], "shared");
        }
        wmma(shape, false, false, ["col", "row", "col"], "shared");
    }
    wmma((16, 16), false, false, ["row", "col", "row"], "global");
    wmma((16, 16), false, false, ["row", "col", "row"], "generic");
}

#[test]
fn misaligned_wmma() {
    let case = wmma((16, 16), false, false, ["row", "col", "row"], "shared");
    case.with("3072;\nadd.u32 %r2", "3080;\nadd.u32 %r2")
        .finds(FindingKind::Misaligned, "wmma.load");
}

/// `ldmatrix` of rows 16 bytes apart, then back with `stmatrix`.
fn matrices(count: usize, load_trans: bool, store_trans: bool) -> (Case, Vec<u16>) {
    let halves: Vec<u16> = (0..256).map(|i| i as u16 * 257).collect();
    let (load, store) =
        (if load_trans { ".trans" } else { "" }, if store_trans { ".trans" } else { "" });
    let body = format!(
        ".reg .b32 %r<8>; .reg .b64 %a<8>; .reg .b32 %t<8>;\n\
         ld.param.u64 %a0, [in];\nld.param.u64 %a1, [out];\nmov.u32 %t0, %tid.x;\n{}\
         mul.lo.u32 %t3, %t0, 16;\nmov.u32 %t4, smem;\nadd.u32 %t3, %t3, %t4;\n\
         ldmatrix.sync.aligned.m8n8.x{count}{load}.shared.b16 {}, [%t3];\n\
         bar.sync 0;\n\
         stmatrix.sync.aligned.m8n8.x{count}{store}.shared.b16 [%t3+512], {};\n{}",
        copy("%a0", "smem", 1024, true),
        vector("%r", 0, count),
        vector("%r", 0, count),
        copy("%a1", "smem+512", 512, false),
    );
    let name = format!("matrices_x{count}{load}{store}").replace('.', "_");
    let ptx = module(".param .u64 in, .param .u64 out", &body);
    let mut image: Vec<u8> = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
    image.resize(1024, 0);
    let case = Case::new(name, ptx, 32, 1024).arg(Arg::In(image)).arg(Arg::Out(512));
    (case, halves)
}

#[test]
fn matrices_there_and_back() {
    for count in [1, 2, 4] {
        for (load, store) in [(false, false), (true, true), (true, false), (false, true)] {
            let (case, halves) = matrices(count, load, store);
            let out = &case.outputs()[0];
            for matrix in 0..count {
                for row in 0..8 {
                    for column in 0..8 {
                        let at = 64 * matrix + 8 * row + column;
                        let got = u16::from_le_bytes([out[2 * at], out[2 * at + 1]]);
                        let from = if load == store { (row, column) } else { (column, row) };
                        assert_eq!(got, halves[64 * matrix + 8 * from.0 + from.1]);
                    }
                }
            }
        }
    }
}

#[test]
fn ldmatrix_checks_and_counts() {
    let (case, _) = matrices(4, false, false);
    let (_, report) = case.launch(0).unwrap();
    let line = case.ptx.lines().position(|l| l.starts_with("ldmatrix")).unwrap() as u32 + 1;
    let site = report.counters.shared_sites[&line];
    assert_eq!((site.requests, site.ideal, site.wavefronts), (1, 4, 4));
    // Rows 128 bytes apart: eight wavefronts for each matrix.
    let far = case.with("mul.lo.u32 %t3, %t0, 16;", "mul.lo.u32 %t3, %t0, 128;");
    let far = Case { shared: 8192, ..far };
    let (_, report) = far.launch(0).unwrap();
    assert_eq!(report.counters.shared_sites[&line].wavefronts, 32);
    case.with("add.u32 %t3, %t3, %t4;", "add.u32 %t3, %t3, 8;")
        .finds(FindingKind::Misaligned, "of 16");
    Case { shared: 768, ..case }.finds(FindingKind::OutOfBounds, "the block has 768 bytes");
}

#[test]
fn odd_numbers() {
    mma_sp(16, 1, false, false, true).case.survives_odd_numbers();
    wmma((16, 16), false, false, ["row", "col", "row"], "generic").survives_odd_numbers();
    matrices(4, true, false).0.survives_odd_numbers();
}
