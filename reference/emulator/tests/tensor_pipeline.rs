//! A sparse main loop as on Hopper: a producer warpgroup with tensor maps and multicast in a cluster of
//! two, two consumer warpgroups with wgmma.sp that leave one group in flight, Packed24 metadata.

mod tensor_support;

use ptx_emulator::FindingKind;
use ptx_emulator::family::tensor_map::{Element, Swizzle, TensorMap};
use tensor_support::*;

/// Rows of W per block, tokens, K; K per stage; stages.
const ROWS: usize = 128;
const TOKENS: usize = 64;
const K: usize = 512;
const STAGE_K: usize = 64;
const STAGES: usize = 2;
/// Bytes of X, of the values and of the metadata of a stage.
const X: usize = TOKENS * 128;
const VALUES: usize = ROWS * 64;
const METADATA: usize = ROWS * 8;
const STAGE: usize = X + VALUES + METADATA;
const FULL: usize = STAGES * STAGE;
const EMPTY: usize = FULL + 8 * STAGES;

fn producer() -> String {
    let total = X + VALUES + METADATA;
    format!(
        "setmaxnreg.dec.sync.aligned.u32 40;
setp.ne.u32 %p1, %t, 256;
@%p1 bra DONE;
mov.u32 %stage, 0; mov.u32 %parity, 1; mov.u32 %k, 0;
mov.b16 %mask, 3;
mul.lo.u32 %r0, %rank, {half}; // first token of this block's half
mul.lo.u32 %r1, %rank, {rows}; // first row of W
mul.lo.u32 %r2, %rank, {blocks}; // first block of 16 rows
LOAD:
shl.b32 %r3, %stage, 3; add.u32 %r3, %r3, %base;
EMPTY_WAIT:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3+{EMPTY}], %parity;
@!%p2 bra EMPTY_WAIT;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3+{FULL}], {total};
mad.lo.u32 %r4, %stage, {STAGE}, %base;
mad.lo.u32 %r5, %r0, 128, %r4;
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r5], \
[%map_x, {{%k, %r0}}], [%r3+{FULL}], %mask;
shr.u32 %r6, %k, 1;
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r4+{X}], [%map_v, {{%r6, \
%r1}}], [%r3+{FULL}];
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r4+{at_m}], [%map_m, \
{{%r6, %r2}}], [%r3+{FULL}];
add.u32 %k, %k, {STAGE_K};
add.u32 %stage, %stage, 1;
setp.eq.u32 %p2, %stage, {STAGES}; @%p2 mov.u32 %stage, 0; @%p2 xor.b32 %parity, %parity, 1;
setp.lt.u32 %p2, %k, {K};
@%p2 bra LOAD;
bra DONE;\n",
        half = TOKENS / 2,
        rows = ROWS,
        blocks = ROWS / 16,
        at_m = X + VALUES,
    )
}

/// One stage of the consumers, with metadata register `e`.
fn consume(e: usize) -> String {
    let d = vector("%d", 0, TOKENS / 2);
    let product = |step: usize| {
        format!(
            "add.s64 %a{at}, %values, {}; add.s64 %b{at}, %tokens, {};\n\
             wgmma.mma_async.sp.sync.aligned.m64n{TOKENS}k32.f32.f16.f16 {d}, %a{at}, %b{at}, %e{e}, \
             {step}, 1, 1, 1, 0, 0;\n",
            2 * step,
            4 * step,
            at = 2 * e + step,
        )
    };
    format!(
        "shl.b32 %r3, %stage, 3; add.u32 %r3, %r3, %base;
FULL_WAIT{e}:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3+{FULL}], %parity;
@!%p2 bra FULL_WAIT{e};
mad.lo.u32 %r4, %stage, {STAGE}, %base;
add.u32 %r5, %r4, %r2;
ld.shared.b32 %e{e}, [%r5+{at_m}];
shr.u32 %r5, %r4, 4; cvt.u64.u32 %tokens, %r5; add.s64 %tokens, %tokens, 0x4000004000010000;
add.u32 %r5, %r4, %r1; shr.u32 %r5, %r5, 4; cvt.u64.u32 %values, %r5;
add.s64 %values, %values, 0x8000002000010000;
wgmma.fence.sync.aligned;
{}{}wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 1;
setp.eq.u32 %p2, %k, 0;
@%p2 bra FIRST{e};
{}FIRST{e}:
add.u32 %k, %k, {STAGE_K};
add.u32 %stage, %stage, 1;
setp.eq.u32 %p2, %stage, {STAGES}; @%p2 mov.u32 %stage, 0; @%p2 xor.b32 %parity, %parity, 1;\n",
        product(0),
        product(1),
        release(),
        at_m = X + VALUES,
    )
}

/// Hands the oldest stage in use back to the producers of both blocks.
fn release() -> String {
    format!(
        "shl.b32 %r5, %old, 3; add.u32 %r5, %r5, %base; add.u32 %r5, %r5, {EMPTY};
setp.gt.u32 %p3, %lane, 1;
@!%p3 mapa.shared::cluster.u32 %r6, %r5, %lane;
@!%p3 mbarrier.arrive.shared::cluster.b64 _, [%r6];
add.u32 %old, %old, 1;
setp.eq.u32 %p3, %old, {STAGES}; @%p3 mov.u32 %old, 0;\n"
    )
}

fn consumers() -> String {
    let mut text = format!(
        "CONSUMER:
setmaxnreg.inc.sync.aligned.u32 232;
shr.u32 %r0, %t, 7; // warpgroup
mul.lo.u32 %r1, %r0, 4096; add.u32 %r1, %r1, {X}; // its values in a stage
shr.u32 %r2, %t, 5; mad.lo.u32 %r2, %r2, 32, %lane; shl.b32 %r2, %r2, 2; // its word of metadata
mov.u32 %stage, 0; mov.u32 %parity, 0; mov.u32 %k, 0; mov.u32 %old, 0;\n"
    );
    for i in 0..TOKENS / 2 {
        text += &format!("mov.b32 %d{i}, 0;\n");
    }
    text += &format!(
        "LOOP:\n{}{}setp.lt.u32 %p2, %k, {K};\n@%p2 bra LOOP;\nwgmma.wait_group.sync.aligned 0;\n{}",
        consume(0),
        consume(1),
        release()
    );
    // Rows of W are columns of the result: out[token][row].
    text += &format!(
        "shr.u32 %r3, %lane, 2; and.b32 %r4, %lane, 3; shl.b32 %r4, %r4, 1;
shr.u32 %r5, %t, 5; mad.lo.u32 %r3, %r5, 16, %r3; mad.lo.u32 %r3, %rank, {ROWS}, %r3;
mad.lo.u32 %r3, %r4, {}, %r3; mul.wide.u32 %address, %r3, 4; add.s64 %address, %address, %out;\n",
        2 * ROWS
    );
    for i in 0..TOKENS / 2 {
        let (row, column) = (i / 2 % 2 * 8, i / 4 * 8 + i % 2);
        text += &format!("st.global.b32 [%address+{}], %d{i};\n", 4 * (column * 2 * ROWS + row));
    }
    text
}

fn main_loop() -> (Case, Matrix) {
    let mut numbers = Numbers::new(5);
    let w = sparse(&mut numbers, 2 * ROWS, K);
    let x = numbers.matrix(TOKENS, K);
    let halves = |m: &Matrix| -> Vec<u8> {
        m.values.iter().flat_map(|v| half_bits(*v, false).to_le_bytes()).collect()
    };
    let mut transposed = Matrix::zeros(K, 2 * ROWS);
    for row in 0..2 * ROWS {
        for k in 0..K {
            transposed.values[k * 2 * ROWS + row] = w.dense.at(row, k);
        }
    }
    let expected = x.times(&transposed, &Matrix::zeros(TOKENS, 2 * ROWS));
    let mut init = String::new();
    for stage in 0..STAGES {
        init += &format!(
            "mbarrier.init.shared::cta.b64 [%base+{}], 1;\nmbarrier.init.shared::cta.b64 [%base+{}], 16;\n",
            FULL + 8 * stage,
            EMPTY + 8 * stage
        );
    }
    let text = format!(
        ".reg .b16 %mask; .reg .b32 %r<8>; .reg .b32 %t, %lane, %rank, %base, %stage, %parity, %k, %old;
.reg .b32 %d<{registers}>; .reg .b32 %e<2>; .reg .b64 %out, %address, %map_x, %map_v, %map_m, %tokens, %values;
.reg .b64 %a<16>; .reg .b64 %b<16>; .reg .pred %p<4>;
ld.param.u64 %out, [out];
mov.b64 %map_x, map_x; cvta.param.u64 %map_x, %map_x;
mov.b64 %map_v, map_v; cvta.param.u64 %map_v, %map_v;
mov.b64 %map_m, map_m; cvta.param.u64 %map_m, %map_m;
mov.u32 %t, %tid.x; and.b32 %lane, %t, 31; mov.u32 %rank, %cluster_ctarank; mov.u32 %base, smem;
setp.ne.u32 %p0, %t, 0;
@%p0 bra READY;
{init}fence.mbarrier_init.release.cluster;
READY:
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
setp.lt.u32 %p0, %t, 256;
@%p0 bra CONSUMER;
{}{}DONE:
barrier.cluster.arrive;
barrier.cluster.wait;",
        producer(),
        consumers(),
        registers = TOKENS / 2,
    );
    let params = ".param .u64 x, .param .u64 values, .param .u64 metadata, .param .u64 out, \
                  .param .align 64 .b8 map_x[128], .param .align 64 .b8 map_v[128], \
                  .param .align 64 .b8 map_m[128]";
    let head = "(.param .u64 x";
    let ptx = module(params, &text).replace(")\n{", ")\n.maxntid 384, 1, 1\n.minnctapersm 1\n{");
    assert!(ptx.contains(head) && ptx.contains("maxntid"));
    let (rows, k) = (2 * ROWS as u64, K as u64);
    let map_x =
        TensorMap::new(Element::F16, 0, &[k, TOKENS as u64], &[2 * k], &[64, TOKENS as u32 / 2]);
    let map_v = TensorMap::new(Element::F16, 0, &[k / 2, rows], &[k], &[32, ROWS as u32]);
    let map_m =
        TensorMap::new(Element::U32, 0, &[k / 2, rows / 16], &[2 * k], &[32, ROWS as u32 / 16]);
    let case = Case::new("sparse_main_loop", ptx, 384, EMPTY + 8 * STAGES)
        .cluster(2)
        .arg(Arg::In(halves(&x)))
        .arg(Arg::In(halves(&w.kept)))
        .arg(Arg::In(bytes_of(&w.metadata)))
        .arg(Arg::Out(4 * TOKENS * 2 * ROWS))
        .arg(Arg::Map(0, map_x.swizzle(Swizzle::B128)))
        .arg(Arg::Map(1, map_v.swizzle(Swizzle::B64)))
        .arg(Arg::Map(2, map_m));
    (case, expected)
}

#[test]
fn a_sparse_main_loop() {
    let (case, expected) = main_loop();
    let got = words_of(&case.outputs()[0]);
    let wrong = got
        .iter()
        .zip(&expected.values)
        .filter(|(got, expected)| f64::from(f32::from_bits(**got)) != **expected)
        .count();
    assert_eq!(wrong, 0);
    for seed in 4..12 {
        assert!(case.findings(seed).is_empty(), "seed {seed}");
    }
}

#[test]
fn mutations_are_caught() {
    let (case, _) = main_loop();
    let caught = |name: &str, case: &Case, kinds: &[FindingKind]| {
        let found =
            (0..8).any(|seed| case.findings(seed).iter().any(|(kind, _)| kinds.contains(kind)));
        assert!(found, "{name}");
    };
    let race = [FindingKind::Race, FindingKind::Poison, FindingKind::InFlight];
    let weak = case.with("wgmma.wait_group.sync.aligned 1;", "wgmma.wait_group.sync.aligned 2;");
    caught("a stage handed back with its products in flight", &weak, &race);
    let one = case.with("ld.shared.b32 %e1,", "ld.shared.b32 %e0,").with(" %e1, ", " %e0, ");
    caught("metadata reloaded in flight", &one, &[FindingKind::InFlight]);
    let fence = case.with("wgmma.fence.sync.aligned;", "");
    caught("no wgmma.fence", &fence, &[FindingKind::Proxy]);
    let init = case.with("fence.mbarrier_init.release.cluster;", "");
    caught("no fence after the mbarriers' initialisation", &init, &[FindingKind::Proxy]);
    let unwaited = case.with("@!%p2 bra FULL_WAIT1;", "").with(
        &format!(
            "FULL_WAIT1:\nmbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3+{FULL}], %parity;"
        ),
        "",
    );
    caught("a stage used before it is full", &unwaited, &race);
    let count = format!("[%base+{EMPTY}], 16;");
    let early = case.with(&count, &format!("[%base+{EMPTY}], 8;"));
    let found = (0..8).any(|seed| match early.launch(seed) {
        Ok((_, report)) => !report.findings.is_empty(),
        Err(_) => true,
    });
    assert!(found, "half the consumers are not waited for");
    let last = format!("{}DONE:\nbarrier.cluster.arrive;\nbarrier.cluster.wait;", "");
    assert!(case.ptx.contains(&last));
    let message = case
        .with("mov.u32 %stage, 0; mov.u32 %parity, 1;", "mov.u32 %stage, 0; mov.u32 %parity, 0;");
    assert!(message.stops(0).contains("an mbarrier phase"));
    let late = case.with("setmaxnreg.dec.sync.aligned.u32 40;", "");
    assert!(late.stops(0).contains("registers (setmaxnreg.inc)"));
}
