//! Bulk copies: plain and of boxes, swizzled, over borders, to a cluster, and back to global memory.

mod tensor_support;

use ptx_emulator::FindingKind;
use ptx_emulator::family::tensor_map::{Element, Fill, Swizzle, TensorMap};
use tensor_support::*;

const HEAD: &str = ".reg .b16 %h<4>; .reg .b32 %r<24>; .reg .b64 %a<8>; .reg .pred %p<4>;
mov.u32 %r0, %tid.x; mov.u32 %r1, smem; setp.eq.u32 %p0, %r0, 0;
";

/// Copies `bytes` of shared memory from `smem` on to global memory at `%a1`, by 32 threads.
fn dump(bytes: usize) -> String {
    let mut out = String::from(
        "mul.lo.u32 %r2, %r0, 16; add.u32 %r3, %r1, %r2; mul.wide.u32 %a2, %r0, 16;\n\
         add.s64 %a2, %a1, %a2;\n",
    );
    for at in (0..bytes).step_by(512) {
        out += &format!(
            "ld.shared.v4.b32 {{%r4,%r5,%r6,%r7}}, [%r3+{at}];\n\
             st.global.v4.b32 [%a2+{at}], {{%r4,%r5,%r6,%r7}};\n"
        );
    }
    out
}

/// Waits for phase 0 of the mbarrier at an offset of `smem`.
fn wait(at: usize) -> String {
    format!(
        "WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1+{at}], 0;\n@!%p1 bra WAIT;\n"
    )
}

fn init(at: usize) -> String {
    format!(
        "@%p0 mbarrier.init.shared::cta.b64 [%r1+{at}], 1;\n@%p0 fence.mbarrier_init.release.cluster;\n\
         bar.sync 0;\n"
    )
}

/// Loads the box at `coordinates` and dumps `bytes` of shared memory, filled with ones before.
fn load_box(name: &str, map: TensorMap, data: Vec<u8>, coordinates: &[i32], bytes: usize) -> Case {
    let rank = map.rank();
    let at: Vec<String> = coordinates.iter().map(|c| c.to_string()).collect();
    let mut body = format!("{HEAD}ld.param.u64 %a1, [out];\n{}", init(bytes));
    body += "mov.b32 %r4, -1; mul.lo.u32 %r2, %r0, 16; add.u32 %r3, %r1, %r2;\n";
    for at in (0..bytes).step_by(512) {
        body += &format!("st.shared.v4.b32 [%r3+{at}], {{%r4,%r4,%r4,%r4}};\n");
    }
    body += &format!(
        "fence.proxy.async.shared::cta;\nbar.sync 0;\nmov.b64 %a3, map;\ncvta.param.u64 %a3, %a3;\n\
         @%p0 prefetch.tensormap [%a3];\n\
         @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1+{bytes}], {};\n\
         @%p0 cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes \
         [%r1], [%a3, {{{}}}], [%r1+{bytes}];\n{}{}",
        map.box_bytes(),
        at.join(", "),
        wait(bytes),
        dump(bytes),
    );
    let params = ".param .u64 in, .param .u64 out, .param .align 64 .b8 map[128]";
    Case::new(name, module(params, &body), 32, bytes + 16)
        .arg(Arg::In(data))
        .arg(Arg::Out(bytes))
        .arg(Arg::Map(0, map))
}

/// 16-bit numbers counted up.
fn counted(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| (i as u16).to_le_bytes()).collect()
}

fn halves(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
}

/// A tensor of 20 rows of 40 numbers, 96 bytes apart.
fn sheet() -> (TensorMap, Vec<u8>) {
    (TensorMap::new(Element::U16, 0, &[40, 20], &[96], &[32, 8]), counted(48 * 20))
}

#[test]
fn boxes_and_borders() {
    let inside = |x: i32, y: i32| (0..40).contains(&x) && (0..20).contains(&y);
    for (x0, y0) in [(0, 0), (8, 12), (-8, 3), (24, 15), (32, -7), (40, 0), (0, 20), (-32, 0)] {
        let (map, data) = sheet();
        let name = format!("box_{}_{}", x0 + 100, y0 + 100);
        let case = load_box(&name, map, data, &[x0, y0], 512);
        let got = halves(&case.outputs()[0]);
        for row in 0..8 {
            for column in 0..32 {
                let (x, y) = (x0 + column, y0 + row);
                let expected = if inside(x, y) { (y * 48 + x) as u16 } else { 0 };
                assert_eq!(got[(row * 32 + column) as usize], expected, "{name} {row} {column}");
            }
        }
    }
}

#[test]
fn nan_outside() {
    for (element, nan) in [(Element::F16, 0x7ff7), (Element::Bf16, 0x7ff7)] {
        let (map, data) = sheet();
        let map = TensorMap { element, ..map }.fill(Fill::Nan);
        let case = load_box(&format!("nan_{element:?}"), map, data, &[32, 16], 512);
        let got = halves(&case.outputs()[0]);
        assert_eq!((got[7], got[8], got[32 * 7]), (16 * 48 + 39, nan, nan));
    }
}

#[test]
fn every_swizzle() {
    for (swizzle, chunks) in [(Swizzle::B32, 2), (Swizzle::B64, 4), (Swizzle::B128, 8)] {
        let row = chunks as usize * 8;
        let map = TensorMap::new(
            Element::F16,
            0,
            &[row as u64, 32],
            &[row as u64 * 2],
            &[row as u32, 16],
        );
        let name = format!("swizzle_{chunks}");
        let bytes = (row * 32).next_multiple_of(512);
        let case = load_box(&name, map.swizzle(swizzle), counted(row * 32), &[0, 5], bytes);
        let got = halves(&case.outputs()[0]);
        for r in 0..16u32 {
            for c in 0..row as u32 {
                let at = layout::swizzle::offset(r, c / 8, chunks) as usize / 2 + c as usize % 8;
                assert_eq!(got[at], ((r + 5) * row as u32 + c) as u16, "{name} {r} {c}");
            }
        }
    }
}

#[test]
fn one_to_five_dimensions_and_steps() {
    let one = TensorMap::new(Element::U16, 0, &[500], &[], &[256]);
    let got = halves(&load_box("rank_1", one, counted(512), &[304], 512).outputs()[0]);
    assert!((0..256).all(|i| got[i] == if i < 196 { 304 + i as u16 } else { 0 }));
    // 8 x 4 x 3 x 2 x 5 numbers; rows of 8 are 16 bytes.
    let dims = [8u64, 4, 3, 2, 5];
    let strides = [16, 64, 192, 384];
    let five = TensorMap::new(Element::U16, 0, &dims, &strides, &[8, 2, 2, 2, 4]);
    let got = halves(&load_box("rank_5", five, counted(960), &[0, 1, 2, 0, 3], 512).outputs()[0]);
    for (i, got) in got.into_iter().enumerate() {
        let (x, y, z, w, v) = (i % 8, i / 8 % 2 + 1, i / 16 % 2 + 2, i / 32 % 2, i / 64 + 3);
        let expected = if z < 3 && v < 5 { x + 8 * y + 32 * z + 96 * w + 192 * v } else { 0 };
        assert_eq!(got, expected as u16, "{i}");
    }
    let steps = TensorMap {
        steps: vec![1, 3],
        ..TensorMap::new(Element::U16, 0, &[16, 60], &[32], &[16, 48])
    };
    assert_eq!(steps.box_bytes(), 512);
    let got = halves(&load_box("steps", steps, counted(960), &[0, 20], 512).outputs()[0]);
    for (i, got) in got.into_iter().enumerate() {
        let row = 20 + 3 * (i / 16);
        assert_eq!(got, if row < 60 { (row * 16 + i % 16) as u16 } else { 0 });
    }
}

#[test]
fn narrow_rows_under_a_wide_swizzle() {
    let map = TensorMap::new(Element::U16, 0, &[64, 16], &[128], &[16, 8]).swizzle(Swizzle::B128);
    let got = halves(&load_box("narrow", map, counted(1024), &[16, 2], 1024).outputs()[0]);
    let mut expected = vec![0xffff; 512];
    for row in 0..8u32 {
        for column in 0..16u32 {
            let at = layout::swizzle::offset(row, column / 8, 8) / 2 + column % 8;
            expected[at as usize] = (64 * (row + 2) + 16 + column) as u16;
        }
    }
    assert_eq!(got, expected);
}

#[test]
fn broken_loads() {
    let (map, data) = sheet();
    let case = load_box("broken", map, data, &[0, 0], 512);
    case.with("@!%p1 bra WAIT;", "")
        .with("mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1+512], 0;", "")
        .finds(FindingKind::Poison, "stored");
    case.with("fence.proxy.async.shared::cta;", "")
        .finds(FindingKind::Proxy, "no fence.proxy.async between");
    case.with("[%r1], [%a3", "[%r1+16], [%a3").finds(FindingKind::Misaligned, "of 128");
    case.with("[%a3, {", "[%a1, {").finds(FindingKind::Illegal, "no magic number");
    case.with("2d.shared", "3d.shared")
        .with("{0, 0}]", "{0, 0, 0}]")
        .finds(FindingKind::Illegal, "2 dimensions");
    let message = case.with("512;\n@%p0 cp", "256;\n@%p0 cp").stops(0);
    assert!(message.contains("deadlock"), "{message}");
    case.with("{0, 0}]", "{4, 0}]").finds(FindingKind::Illegal, "is not a multiple of 16");
    // A tensor that is larger than its buffer.
    let (map, mut data) = sheet();
    data.truncate(96 * 7 + 62);
    load_box("cut", map, data, &[0, 0], 512).finds(FindingKind::OutOfBounds, "bytes at");
}

/// Block r of a cluster of `blocks` loads rows 4r..4r+4 of a sheet into all of them.
fn multicast(blocks: u32) -> Case {
    let total = 256 * blocks as usize;
    let mask = (1 << blocks) - 1;
    let map = TensorMap::new(Element::U16, 0, &[32, 4 * u64::from(blocks)], &[64], &[32, 4]);
    let mut body = format!("{HEAD}ld.param.u64 %a1, [out];\nmov.u32 %r8, %cluster_ctarank;\n");
    body += &format!(
        "mul.wide.u32 %a2, %r8, {total}; add.s64 %a1, %a1, %a2;\n{}\
         @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1+{total}], {total};\n\
         barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n\
         mov.b64 %a3, map; cvta.param.u64 %a3, %a3;\n\
         mul.lo.u32 %r9, %r8, 256; add.u32 %r9, %r9, %r1; mul.lo.u32 %r10, %r8, 4; mov.b16 %h0, {mask};\n\
         @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster \
         [%r9], [%a3, {{0, %r10}}], [%r1+{total}], %h0;\n{}{}\
         barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;",
        init(total),
        wait(total),
        dump(total),
    );
    let params = ".param .u64 in, .param .u64 out, .param .align 64 .b8 map[128]";
    Case::new(format!("multicast_{blocks}"), module(params, &body), 32, total + 16)
        .cluster(blocks)
        .arg(Arg::In(counted(total / 2)))
        .arg(Arg::Out(total * blocks as usize))
        .arg(Arg::Map(0, map))
}

#[test]
fn multicast_in_a_cluster() {
    for blocks in [2, 4] {
        let case = multicast(blocks);
        let expected = counted(128 * blocks as usize).repeat(blocks as usize);
        assert_eq!(case.outputs()[0], expected);
    }
    let case = multicast(2);
    case.with("mov.b16 %h0, 3", "mov.b16 %h0, 7").finds(FindingKind::Illegal, "multicast to 0x7");
    // Blocks that copy before the others have made their mbarriers.
    let first = "barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\nmov.b64";
    case.with(first, "mov.b64").finds_any(&[
        (FindingKind::Race, "use of an mbarrier"),
        (FindingKind::Illegal, "no mbarrier"),
    ]);
    let message = case.with("mov.b16 %h0, 3", "mov.b16 %h0, 1").stops(0);
    assert!(message.contains("deadlock") && message.contains("block (1,0,0)"), "{message}");
}

/// Threads write, one copies 512 bytes from shared to global memory.
fn store(name: &str, copy: &str, params: &str) -> Case {
    let body = format!(
        "{HEAD}ld.param.u64 %a1, [out];\n\
         mul.lo.u32 %r2, %r0, 16; add.u32 %r3, %r1, %r2; mul.lo.u32 %r4, %r0, 8;\n\
         add.u32 %r5, %r4, 2; add.u32 %r6, %r4, 4; add.u32 %r7, %r4, 6;\n\
         st.shared.v4.b32 [%r3], {{%r4,%r5,%r6,%r7}};\n\
         fence.proxy.async.shared::cta;\nbar.sync 0;\n{copy}\
         @%p0 cp.async.bulk.commit_group;\n@%p0 cp.async.bulk.wait_group 0;"
    );
    Case::new(name, module(params, &body), 32, 528)
}

fn plain_store() -> Case {
    let copy = "@%p0 cp.async.bulk.global.shared::cta.bulk_group [%a1], [%r1], 512;\n";
    store("bulk_store", copy, ".param .u64 out").arg(Arg::Out(512))
}

#[test]
fn stores_and_reductions() {
    let even: Vec<u32> = (0..128).map(|i| 2 * i).collect();
    let case = plain_store();
    assert_eq!(words_of(&case.outputs()[0]), even);
    let twice = case.with(
        "@%p0 cp.async.bulk.commit_group",
        "@%p0 cp.async.bulk.commit_group;\n@%p0 cp.async.bulk.wait_group 0;\n\
         @%p0 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%a1], [%r1], 512;\n\
         @%p0 cp.async.bulk.commit_group",
    );
    let twice = Case { name: "bulk_reduce".into(), ..twice };
    assert_eq!(words_of(&twice.outputs()[0]), (0..128).map(|i| 4 * i).collect::<Vec<_>>());
    // Reads at .read, and arrives at the exit.
    let exits = case.with("wait_group 0", "wait_group.read 0");
    assert_eq!(words_of(&exits.outputs()[0]), even);
}

#[test]
fn boxes_back_to_global_memory() {
    let copy = "mov.b64 %a3, map;\ncvta.param.u64 %a3, %a3;\n\
         @%p0 cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%a3, {16, 15}], [%r1];\n";
    for (swizzle, chunks) in [(Swizzle::None, 1), (Swizzle::B64, 4)] {
        let (map, _) = sheet();
        let params = ".param .u64 out, .param .align 64 .b8 map[128]";
        let map = map.swizzle(swizzle);
        let case = store(&format!("box_store_{chunks}"), copy, params)
            .arg(Arg::Out(96 * 20))
            .arg(Arg::Map(0, map.clone()));
        let got = halves(&case.outputs()[0]);
        for y in 0..20u32 {
            for x in 0..48u32 {
                let inside = (16..40).contains(&x) && y >= 15;
                let from = if inside {
                    let (row, column) = (y - 15, x - 16);
                    let chunk = match swizzle {
                        Swizzle::None => row * 4 + column / 8,
                        _ => layout::swizzle::offset(row, column / 8, chunks) / 16,
                    };
                    // Words count in twos; their upper halves are zero.
                    let half = chunk * 8 + column % 8;
                    if half % 2 == 0 { half as u16 } else { 0 }
                } else {
                    0
                };
                assert_eq!(got[(y * 48 + x) as usize], from, "{swizzle:?} {x} {y}");
            }
        }
    }
}

#[test]
fn broken_stores() {
    let case = plain_store();
    case.with("fence.proxy.async.shared::cta;", "")
        .finds(FindingKind::Proxy, "asynchronous read of shared address 0x0 of what warp 0 wrote");
    case.with("@%p0 cp.async.bulk.wait_group 0;", "")
        .finds(FindingKind::InFlight, "exits while a bulk copy");
    case.with("@%p0 cp.async.bulk.commit_group;", "")
        .finds(FindingKind::InFlight, "exits while a bulk copy");
    case.with("[%r1], 512", "[%r1], 520").finds(FindingKind::Illegal, "520 bytes");
    case.with("[%r1], 512", "[%r1+8], 512").finds(FindingKind::Misaligned, "of 16");
    case.with("[%a1], [%r1]", "[%a1+16], [%r1]").finds(FindingKind::OutOfBounds, "512 bytes");
    // The bytes change before the copy has read them: another warp, and no wait between.
    let body = "setp.eq.u32 %p2, %r0, 32;\n@%p2 st.shared.b32 [%r1], %r0;\n@%p0 cp.async.bulk.commit_group;";
    let changed = case.with("@%p0 cp.async.bulk.commit_group;", body);
    let changed = Case { block: 64, shared: 1040, ..changed };
    let changed = changed.with("bar.sync 0;", "bar.sync 0;\nbar.sync 1;");
    changed.finds(FindingKind::Race, "shared address 0x0");
    // Behind a barrier after the start of the copy, which orders nothing behind its end.
    let reused = |wait: &str| {
        let commit = "@%p0 cp.async.bulk.commit_group;";
        let write =
            "bar.sync 0;\nst.shared.b32 [%r3], %r0;\nfence.proxy.async.shared::cta;\nbar.sync 0;";
        case.with(commit, &format!("{commit}\n{wait}\n{write}"))
    };
    reused("").finds(FindingKind::Race, "write of shared address 0x0 that a bulk copy of warp 0");
    assert!(reused("@%p0 cp.async.bulk.wait_group.read 0;").findings(0).is_empty());
}

/// One block copies 256 bytes of its shared memory into the other's.
#[test]
fn between_blocks_of_a_cluster() {
    let body = format!(
        "{HEAD}ld.param.u64 %a1, [out];\nmov.u32 %r8, %cluster_ctarank;\n\
         mul.wide.u32 %a2, %r8, 512; add.s64 %a1, %a1, %a2;\n\
         mul.lo.u32 %r2, %r0, 16; add.u32 %r3, %r1, %r2; mad.lo.u32 %r4, %r8, 1000, %r0;\n\
         st.shared.v4.b32 [%r3], {{%r4,%r4,%r4,%r4}};\n{}\
         fence.proxy.async.shared::cta;\n\
         @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1+512], 256;\n\
         barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n\
         xor.b32 %r9, %r8, 1; mapa.shared::cluster.u32 %r10, %r1, %r9;\n\
         @%p0 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r10+256], [%r1], \
         256, [%r10+512];\n{}{}\
         barrier.cluster.arrive;\nbarrier.cluster.wait;",
        init(512),
        wait(512),
        dump(512),
    );
    let case = Case::new("between_blocks", module(".param .u64 out", &body), 32, 528)
        .cluster(2)
        .arg(Arg::Out(1024));
    let words = words_of(&case.outputs()[0]);
    for block in 0..2u32 {
        for i in 0..128u32 {
            let from = if i < 64 { block } else { 1 - block };
            assert_eq!(words[(block * 128 + i) as usize], from * 1000 + i % 64 / 4);
        }
    }
    let early =
        case.with("mov.u32 %r8, %cluster_ctarank;", "mov.u32 %r8, %cluster_ctarank;\nbar.sync 2;");
    assert!(early.findings(0).is_empty());
    case.with("barrier.cluster.arrive.release", "barrier.cluster.arrive.relaxed")
        .finds(FindingKind::Race, "use of an mbarrier");
}

#[test]
fn odd_numbers() {
    plain_store().survives_odd_numbers();
    multicast(2).survives_odd_numbers();
    let (map, data) = sheet();
    load_box("odd", map.swizzle(Swizzle::B128), data, &[0, 0], 1024).survives_odd_numbers();
}
