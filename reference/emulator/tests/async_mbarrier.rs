//! mbarriers: a ring of stages between a producer and consumers, phases, states, and deadlocks.

mod tensor_support;

use ptx_emulator::FindingKind;
use tensor_support::*;

const HEAD: &str = ".reg .b32 %r<24>; .reg .b64 %a<8>; .reg .b64 %s<4>; .reg .pred %p<4>;
ld.param.u64 %a0, [in]; ld.param.u64 %a1, [out]; mov.u32 %r0, %tid.x;
mov.u32 %r1, smem; setp.eq.u32 %p0, %r0, 0;
";

/// Warp 0 copies 8 tiles of 512 bytes in bulk through a ring of two stages; warps 1 and 2 store the sum
/// of each tile and the thread's number. Full barriers at 1024 and 1032, empty ones at 1040 and 1048.
fn ring() -> Case {
    let body = format!(
        "{HEAD}
@!%p0 bra READY;
mbarrier.init.shared::cta.b64 [%r1+1024], 1;
mbarrier.init.shared::cta.b64 [%r1+1032], 1;
mbarrier.init.shared::cta.b64 [%r1+1040], 64;
mbarrier.init.shared::cta.b64 [%r1+1048], 64;
fence.mbarrier_init.release.cluster;
READY:
bar.sync 0;
mov.u32 %r2, 0; // tile
mov.u32 %r3, 0; // stage
mov.u32 %r4, 0; // parity
setp.ge.u32 %p1, %r0, 32;
@%p1 bra CONSUMER;
@!%p0 bra END;
PRODUCER:
shl.b32 %r5, %r3, 3; add.u32 %r5, %r5, %r1;
xor.b32 %r6, %r4, 1;
WAIT_EMPTY:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r5+1040], %r6;
@!%p2 bra WAIT_EMPTY;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r5+1024], 512;
shl.b32 %r7, %r3, 9; add.u32 %r7, %r7, %r1;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r7], [%a0], 512, [%r5+1024];
add.s64 %a0, %a0, 512;
add.u32 %r2, %r2, 1;
xor.b32 %r3, %r3, 1;
setp.eq.u32 %p2, %r3, 0; @%p2 xor.b32 %r4, %r4, 1;
setp.lt.u32 %p2, %r2, 8;
@%p2 bra PRODUCER;
bra END;
CONSUMER:
sub.u32 %r8, %r0, 32; shl.b32 %r9, %r8, 3;
mul.wide.u32 %a2, %r8, 8; add.s64 %a1, %a1, %a2;
NEXT:
shl.b32 %r5, %r3, 3; add.u32 %r5, %r5, %r1;
WAIT_FULL:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r5+1024], %r4;
@!%p2 bra WAIT_FULL;
shl.b32 %r7, %r3, 9; add.u32 %r7, %r7, %r1; add.u32 %r7, %r7, %r9;
ld.shared.v2.b32 {{%r10, %r11}}, [%r7];
mbarrier.arrive.shared::cta.b64 _, [%r5+1040];
add.u32 %r10, %r10, %r8; add.u32 %r11, %r11, %r8;
st.global.v2.b32 [%a1], {{%r10, %r11}};
add.s64 %a1, %a1, 512;
add.u32 %r2, %r2, 1;
xor.b32 %r3, %r3, 1;
setp.eq.u32 %p2, %r3, 0; @%p2 xor.b32 %r4, %r4, 1;
setp.lt.u32 %p2, %r2, 8;
@%p2 bra NEXT;
END:"
    );
    let input: Vec<u32> = (0..1024).map(|i| i * 7).collect();
    Case::new("mbarrier_ring", module(".param .u64 in, .param .u64 out", &body), 96, 1056)
        .arg(Arg::In(bytes_of(&input)))
        .arg(Arg::Out(4096))
}

#[test]
fn a_ring_of_stages() {
    let case = ring();
    let expected: Vec<u32> = (0..1024).map(|i| i * 7 + i % 128 / 2).collect();
    assert_eq!(words_of(&case.outputs()[0]), expected);
    for seed in 4..16 {
        assert!(case.findings(seed).is_empty());
    }
    // test_wait does not spin either.
    let polled = case.with("mbarrier.try_wait", "mbarrier.test_wait");
    assert_eq!(words_of(&polled.outputs()[0]), expected);
}

#[test]
fn broken_rings() {
    let case = ring();
    // The consumers start in the wrong phase: they read what never arrived, or everybody waits.
    let flipped = case.with("[%r5+1024], %r4", "[%r5+1024], %r6");
    let flipped = flipped.with("mov.u32 %r4, 0;", "mov.u32 %r4, 0; mov.u32 %r6, 1;");
    flipped.finds_any(&[(FindingKind::Race, "asynchronous"), (FindingKind::Poison, "stored")]);
    let message = case.with("xor.b32 %r6, %r4, 1;", "mov.u32 %r6, %r4;").stops(1);
    assert!(
        message.contains("deadlock") && message.contains("waits for an mbarrier phase"),
        "{message}"
    );
    // An arrival too few, a byte too many.
    let message = case.with("[%r1+1040], 64;", "[%r1+1040], 65;").stops(0);
    assert!(message.contains("deadlock"), "{message}");
    let message = case.with("[%r5+1024], 512;\nshl", "[%r5+1024], 528;\nshl").stops(2);
    assert!(message.contains("deadlock"), "{message}");
    // The producer does not wait for the consumers.
    let hasty = case.with("@!%p2 bra WAIT_EMPTY;", "");
    let hasty = hasty.with("mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r5+1040], %r6;", "");
    let found =
        (0..8).any(|seed| hasty.findings(seed).iter().any(|(kind, _)| *kind == FindingKind::Race));
    assert!(found);
    // Nobody looks at the answer of the waits.
    for wait in ["bra WAIT_FULL;", "bra WAIT_EMPTY;"] {
        let deaf = case.with(&format!("@!%p2 {wait}"), "");
        let found =
            (0..8).filter(|seed| deaf.launch(*seed).is_err() || !deaf.findings(*seed).is_empty());
        assert!(found.count() >= 6, "{wait}");
    }
    // Stages handed back before they are read.
    let early = case.with("mbarrier.arrive.shared::cta.b64 _, [%r5+1040];", "").with(
        "ld.shared.v2.b32",
        "mbarrier.arrive.shared::cta.b64 _, [%r5+1040];\nld.shared.v2.b32",
    );
    let found =
        (0..8).any(|seed| early.findings(seed).iter().any(|(kind, _)| *kind == FindingKind::Race));
    assert!(found);
}

#[test]
fn initialisation_must_be_seen() {
    let case = ring();
    case.with("READY:\nbar.sync 0;", "READY:").finds_any(&[
        (FindingKind::Race, "use of an mbarrier"),
        (FindingKind::Illegal, "no mbarrier"),
    ]);
    case.with("fence.mbarrier_init.release.cluster;", "")
        .finds(FindingKind::Proxy, "neither fence.mbarrier_init nor fence.proxy.async");
    assert!(
        case.with("fence.mbarrier_init.release.cluster", "fence.proxy.async")
            .findings(0)
            .is_empty()
    );
    case.with("mbarrier.init.shared::cta.b64 [%r1+1024], 1;", "")
        .finds(FindingKind::Illegal, "no mbarrier was initialised");
    let twice = "mbarrier.init.shared::cta.b64 [%r1+1024], 1;";
    case.with(twice, &format!("{twice}\n{twice}"))
        .finds(FindingKind::Illegal, "again without mbarrier.inval");
    let thrice = format!("{twice}\nmbarrier.inval.shared::cta.b64 [%r1+1024];\n{twice}");
    assert!(case.with(twice, &thrice).findings(0).is_empty());
    case.with(twice, &format!("{twice}\nst.shared.b32 [%r1+1028], %r0;"))
        .finds(FindingKind::Illegal, "was overwritten");
}

/// States, counts, drops and tests, by one warp.
fn states() -> Case {
    let body = format!(
        "{HEAD}
mul.wide.u32 %a2, %r0, 32; add.s64 %a1, %a1, %a2;
@%p0 mbarrier.init.shared.b64 [%r1], 34;
bar.warp.sync 0xffffffff;
mbarrier.arrive.shared.b64 %s0, [%r1];
mbarrier.pending_count.b64 %r2, %s0;
mbarrier.test_wait.shared.b64 %p1, [%r1], %s0; // gives up: nothing can come
selp.u32 %r3, 1, 0, %p1;
@%p0 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], 100;
@%p0 mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r1], 60;
@%p0 mbarrier.arrive.release.cta.shared::cta.b64 %s1, [%r1], 2;
bar.warp.sync 0xffffffff;
mbarrier.try_wait.shared.b64 %p1, [%r1], %s0, 1000;
selp.u32 %r4, 1, 0, %p1;
bar.warp.sync 0xffffffff;
@%p0 mbarrier.complete_tx.shared.b64 [%r1], 40;
bar.warp.sync 0xffffffff;
mbarrier.test_wait.acquire.cta.shared.b64 %p1, [%r1], %s0;
selp.u32 %r5, 1, 0, %p1;
@%p0 mbarrier.arrive_drop.shared.b64 _, [%r1], 33;
bar.warp.sync 0xffffffff;
@%p0 mbarrier.arrive.shared.b64 %s0, [%r1];
@%p0 mbarrier.arrive.shared.b64 %s0, [%r1];
bar.warp.sync 0xffffffff;
mbarrier.test_wait.parity.shared.b64 %p1, [%r1], 0;
selp.u32 %r6, 1, 0, %p1;
st.global.v4.b32 [%a1], {{%r2, %r3, %r4, %r5}};
st.global.b32 [%a1+16], %r6;"
    );
    Case::new("mbarrier_states", module(".param .u64 in, .param .u64 out", &body), 32, 16)
        .arg(Arg::In(vec![0; 16]))
        .arg(Arg::Out(1024))
}

#[test]
fn states_and_counts() {
    let words = words_of(&states().outputs()[0]);
    for lane in 0..32 {
        let row = &words[8 * lane..8 * lane + 5];
        assert_eq!(row, [34, 0, 0, 1, 1]);
    }
}

#[test]
fn limits() {
    let case = states();
    case.with("_, [%r1], 33", "_, [%r1], 40").finds(FindingKind::Illegal, "40 arrivals");
    case.with("[%r1], 100", "[%r1], 2000000").finds(FindingKind::Illegal, "transaction count");
    case.with("[%r1], 34", "[%r1], 0").finds(FindingKind::Illegal, "an mbarrier of 0");
    case.with("[%r1], 34", "[%r1+4], 34").finds(FindingKind::Misaligned, "of 8");
}

#[test]
fn odd_numbers() {
    ring().survives_odd_numbers();
    states().survives_odd_numbers();
}
