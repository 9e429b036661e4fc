//! wgmma and wgmma.sp: shapes, types, layouts in shared memory, operands in registers, and what is
//! wrong with registers and memory in flight.

mod tensor_support;
#[path = "tensor_support/warpgroup.rs"]
mod warpgroup;

use ptx_emulator::FindingKind;
use ptx_emulator::family::tensor_map::Swizzle;
use tensor_support::*;
use warpgroup::*;

const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

#[test]
fn shapes_and_types() {
    for sparse in [false, true] {
        for a in [Some(K_MAJOR), None] {
            for n in [8, 64, 256] {
                let gemm = Gemm { sparse, a, k: 128, ..Gemm::new(n) };
                gemm.check();
                Gemm { f16_sums: true, ..gemm.clone() }.check();
                Gemm { bf16: true, ..gemm }.check();
            }
            Gemm { sparse, a, adds: false, ..Gemm::new(24) }.check();
            Gemm { sparse, a, scales: (-1, 1), ..Gemm::new(8) }.check();
            Gemm { sparse, a, scales: (1, -1), ..Gemm::new(8) }.check();
            Gemm { sparse, a, scales: (-1, -1), ..Gemm::new(8) }.check();
        }
    }
}

#[test]
fn layouts_of_a_and_b() {
    for sparse in [false, true] {
        for swizzle in SWIZZLES {
            for mn_major in [false, true] {
                let layout = Layout { swizzle, mn_major };
                Gemm { sparse, a: Some(layout), ..Gemm::new(32) }.check();
                Gemm { sparse, b: layout, ..Gemm::new(128) }.check();
                Gemm { sparse, a: None, b: layout, ..Gemm::new(64) }.check();
            }
        }
    }
}

#[test]
fn tiles_that_begin_within_a_pattern() {
    for (swizzle, lines) in [(Swizzle::B128, 3), (Swizzle::B64, 1), (Swizzle::B32, 1)] {
        let b = Layout { swizzle, mn_major: false };
        Gemm { b, base: lines, ..Gemm::new(16) }.check();
    }
}

#[test]
fn groups_in_flight() {
    for sparse in [false, true] {
        for a in [Some(K_MAJOR), None] {
            Gemm { sparse, a, groups: true, k: 128, ..Gemm::new(32) }.check();
        }
    }
}

const WAIT: &str = "wgmma.wait_group.sync.aligned 0;";

#[test]
fn missing_fences() {
    let (case, _) = Gemm::new(16).case();
    case.with("fence.proxy.async.shared::cta;", "")
        .finds(FindingKind::Proxy, "wgmma's read of shared address");
    case.with("fence.proxy.async.shared::cta;\nbar.sync 0;", "fence.proxy.async.shared::cta;")
        .finds(FindingKind::Race, "wgmma's read of shared address");
    case.with("wgmma.fence.sync.aligned;", "")
        .finds(FindingKind::Proxy, "written after the last wgmma.fence");
    // A fence before the accumulators are loaded is none.
    let early = case.with("wgmma.fence.sync.aligned;", "");
    let early = early.with("ld.global.b32 %d0,", "wgmma.fence.sync.aligned;\nld.global.b32 %d0,");
    early.finds(FindingKind::Proxy, "written after the last wgmma.fence");
    let (registers, _) = Gemm { a: None, ..Gemm::new(16) }.case();
    let early =
        registers.with("wgmma.fence.sync.aligned;", "wgmma.fence.sync.aligned;\nmov.b32 %r0, 0;");
    early.finds(FindingKind::Proxy, "written after the last wgmma.fence");
}

#[test]
fn registers_in_flight() {
    let (case, expected) = Gemm { a: None, sparse: true, ..Gemm::new(16) }.case();
    let before = |text: &str| case.with(WAIT, &format!("{text}\n{WAIT}"));
    before("mov.b32 %d3, 0;").finds(FindingKind::InFlight, "an accumulator of a wgmma was changed");
    before("add.u32 %r1, %r1, 1;")
        .finds(FindingKind::InFlight, "the A register of a wgmma was changed");
    before("st.global.b32 [%a1], %d0;").finds(FindingKind::Poison, "stored");
    case.with(WAIT, "").finds(FindingKind::InFlight, "exits with wgmma in flight");
    case.with(WAIT, "wgmma.wait_group.sync.aligned 1;").finds(FindingKind::Poison, "stored");
    // The metadata register (of both steps) is read when the product is carried out.
    let changed = before("xor.b32 %r8, %r8, 0x11;");
    changed.finds(FindingKind::InFlight, "the metadata register of a wgmma was changed");
    let (outs, _) = changed.launch(0).unwrap();
    let gemm = Gemm { a: None, sparse: true, ..Gemm::new(16) };
    assert_ne!(gemm.result(&words_of(&outs[0])), expected);
    // After the wait all of them are free.
    let free = "mov.b32 %r0, 0;\nmov.b32 %r8, 0;\nmov.b32 %d0, %d0;";
    assert!(case.with(WAIT, &format!("{WAIT}\n{free}")).findings(0).is_empty());
}

#[test]
fn metadata_reloaded_with_a_group_in_flight() {
    // The case of anchors.md: one register for two steps' metadata, and one group left in flight.
    let gemm = Gemm { sparse: true, groups: true, k: 128, ..Gemm::new(16) };
    let (case, _) = gemm.case();
    let third = case.ptx.match_indices("wgmma.mma_async").nth(2).unwrap().0;
    let (head, tail) = case.ptx.split_at(third);
    let tail = tail.replace(" %r1,", " %r0,");
    let reloaded = Case {
        ptx: format!("{head}mov.b32 %r0, %r1;\n{tail}"),
        name: "metadata reloaded".into(),
        ..case.clone()
    };
    reloaded.finds(FindingKind::InFlight, "the metadata register of a wgmma was changed");
    // Draining before makes it right.
    let drained = Case {
        ptx: format!("{head}{WAIT}\nmov.b32 %r0, %r1;\n{tail}"),
        name: "wgmma_metadata_reloaded".into(),
        ..case
    };
    drained.outputs();
}

#[test]
fn shared_memory_in_flight() {
    let (case, _) = Gemm::new(16).case();
    let write = "setp.eq.u32 %p1, %t0, 0;\n@%p1 st.shared.b32 [%t1], %t0;";
    case.with(WAIT, &format!("{write}\n{WAIT}")).finds(FindingKind::Race, "shared address");
    // After the wait of the writing warp alone it is right: the warpgroup's reads are done.
    assert!(case.with(WAIT, &format!("{WAIT}\n{write}")).findings(0).is_empty());
}

#[test]
fn broken_warpgroups() {
    let (case, _) = Gemm::new(16).case();
    let message = Case { block: 96, ..case.clone() }.stops(0);
    assert!(message.contains("all four warps"), "{message}");
    let differs = "setp.gt.u32 %p1, %t0, 63;\n@%p1 add.s64 %m0, %m0, 2;\nfence.proxy";
    case.with("fence.proxy", differs)
        .finds(FindingKind::Divergence, "different products or descriptors");
    let some = "setp.gt.u32 %p1, %t0, 63;\n@%p1 bra SKIP;\nwgmma.commit_group.sync.aligned;\nSKIP:";
    let message = case.with("wgmma.commit_group.sync.aligned;", some).stops(0);
    assert!(message.contains("the other warps of its warpgroup"), "{message}");
    let half = "setp.gt.u32 %p1, %t0, 15;\n@%p1 wgmma.fence.sync.aligned;";
    case.with("wgmma.fence.sync.aligned;", half).finds(FindingKind::Divergence, "wgmma.fence");
    case.with("shr.u64 %a4, %a4, 4;", "shr.u64 %a4, %a4, 4;\nor.b64 %a4, %a4, 0x8000;")
        .finds(FindingKind::Illegal, "reserved bits 0x8000");
    let lane = "setp.eq.u32 %p1, %t0, 5;\n@%p1 add.s64 %m0, %m0, 2;\nfence.proxy";
    case.with("fence.proxy", lane).finds(FindingKind::Illegal, "the descriptor of A differs");
    let far = "shr.u64 %a4, %a4, 4;\nadd.s64 %a4, %a4, 0x2000;";
    case.with("shr.u64 %a4, %a4, 4;", far).finds(FindingKind::OutOfBounds, "shared address");
    let (sparse, _) = Gemm { sparse: true, ..Gemm::new(16) }.case();
    let illegal = "setp.eq.u32 %p1, %t0, 37;\n@%p1 and.b32 %r0, %r0, 0xfffff0ff;\nfence.proxy";
    sparse
        .with("fence.proxy", illegal)
        .finds(FindingKind::Illegal, "nibble 0x0 of lane 5, group 6 of row 1");
    let message = ptx_emulator::Module::parse(&case.ptx.replace("m64n16", "m64n12")).err().unwrap();
    assert!(message.to_string().contains("m64nNk16 expected"), "{message}");
}

#[test]
fn odd_numbers() {
    for sparse in [false, true] {
        let mn_major = Layout { swizzle: Swizzle::B32, mn_major: true };
        for a in [None, Some(mn_major)] {
            Gemm { sparse, a, ..Gemm::new(8) }.case().0.survives_odd_numbers();
        }
    }
}
