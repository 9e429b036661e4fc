//! Cluster barriers, distributed shared memory with remote mbarriers, and setmaxnreg.

mod tensor_support;

use ptx_emulator::FindingKind;
use tensor_support::*;

const HEAD: &str = ".reg .b32 %r<24>; .reg .b64 %a<8>; .reg .pred %p<4>;
ld.param.u64 %a1, [out]; mov.u32 %r0, %tid.x; mov.u32 %r1, smem; setp.eq.u32 %p0, %r0, 0;
mov.u32 %r8, %cluster_ctarank; mov.u32 %r9, %cluster_nctarank;
mad.lo.u32 %r2, %r8, 64, %r0; mul.wide.u32 %a2, %r2, 4; add.s64 %a1, %a1, %a2;
";

fn case(name: &str, body: &str, blocks: u32) -> Case {
    let ptx = module(".param .u64 out", &format!("{HEAD}{body}"));
    Case::new(name, ptx, 64, 512).cluster(blocks).arg(Arg::Out(256 * blocks as usize))
}

/// Every thread stores what the same thread of the next block has put into its shared memory.
fn neighbours() -> Case {
    case(
        "cluster_neighbours",
        "mul.lo.u32 %r3, %r2, 3; shl.b32 %r4, %r0, 2; add.u32 %r4, %r4, %r1;
st.shared.b32 [%r4], %r3;
barrier.cluster.arrive.release.aligned;
barrier.cluster.wait.acquire.aligned;
add.u32 %r5, %r8, 1; rem.u32 %r5, %r5, %r9;
mapa.shared::cluster.u32 %r6, %r4, %r5;
ld.shared::cluster.b32 %r7, [%r6];
st.global.b32 [%a1], %r7;
barrier.cluster.arrive.relaxed;
barrier.cluster.wait;",
        4,
    )
}

#[test]
fn a_cluster_barrier() {
    let case = neighbours();
    let expected: Vec<u32> = (0..256).map(|i| (i + 64) % 256 * 3).collect();
    assert_eq!(words_of(&case.outputs()[0]), expected);
    let (_, report) = case.launch(0).unwrap();
    assert_eq!(report.counters.barriers, 2);
    case.with("arrive.release", "arrive.relaxed").finds(FindingKind::Race, "shared address");
    let none = case
        .with("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;", "");
    none.finds_any(&[(FindingKind::Race, "shared address"), (FindingKind::Poison, "stored")]);
    case.with("barrier.cluster.arrive.release.aligned;", "")
        .finds(FindingKind::Barrier, "without having arrived");
    case.with("barrier.cluster.wait.acquire.aligned;", "")
        .finds(FindingKind::Barrier, "twice without a wait");
    // Threads that exit early need not arrive.
    let some = case.with("st.global.b32", "setp.gt.u32 %p1, %r0, 31;\n@%p1 exit;\nst.global.b32");
    assert!((0..4).all(|seed| some.findings(seed).is_empty()));
    // A block that does not wait at the end may end while others read its shared memory.
    let one =
        case.with("barrier.cluster.wait;", "setp.eq.u32 %p1, %r8, 5;\n@%p1 barrier.cluster.wait;");
    let ended = |(kind, message): &(FindingKind, String)| {
        *kind == FindingKind::OutOfBounds && message.contains("of cluster rank")
    };
    assert!((0..4).any(|seed| one.findings(seed).iter().any(ended)));
    // A block that waits for one that never comes.
    let stuck = case.with(
        "barrier.cluster.arrive.relaxed;",
        "LOOP:\nbar.sync 1, 96;\n@%p0 barrier.cluster.arrive;",
    );
    let message = stuck.stops(0);
    assert!(message.contains("deadlock"), "{message}");
}

#[test]
fn the_wait_says_what_it_waits_for() {
    let case = neighbours();
    let body =
        "setp.eq.u32 %p1, %r8, 2;\n@%p1 bar.sync 3, 96;\nbarrier.cluster.arrive.release.aligned;";
    let message = case.with("barrier.cluster.arrive.release.aligned;", body).stops(3);
    assert!(message.contains("waits for the cluster's barrier"), "{message}");
    assert!(message.contains("waits for barrier 3"), "{message}");
}

/// Block 1 puts numbers into block 0's shared memory and arrives on its mbarrier.
fn remote() -> Case {
    case(
        "cluster_remote_mbarrier",
        "@%p0 mbarrier.init.shared::cta.b64 [%r1+256], 64;
@%p0 fence.mbarrier_init.release.cluster;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
shl.b32 %r4, %r0, 2; add.u32 %r4, %r4, %r1; mov.u32 %r7, 77;
setp.eq.u32 %p1, %r8, 0;
@%p1 bra WAIT;
mapa.shared::cluster.u32 %r5, %r4, 0;
mapa.shared::cluster.u32 %r6, %r1, 0;
add.u32 %r3, %r0, 1000;
st.shared::cluster.b32 [%r5], %r3;
mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r6+256];
bra END;
WAIT:
mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p2, [%r1+256], 0;
@!%p2 bra WAIT;
xor.b32 %r4, %r4, 4;
ld.shared.b32 %r7, [%r4];
END:
st.global.b32 [%a1], %r7;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;",
        2,
    )
}

#[test]
fn an_mbarrier_of_another_block() {
    let case = remote();
    let expected: Vec<u32> = (0..128).map(|i| if i < 64 { 1000 + (i ^ 1) } else { 77 }).collect();
    assert_eq!(words_of(&case.outputs()[0]), expected);
    case.with("arrive.release.cluster.", "arrive.relaxed.cluster.")
        .finds(FindingKind::Race, "shared address");
    case.with("try_wait.parity.acquire", "try_wait.parity.relaxed")
        .finds(FindingKind::Race, "shared address");
    let message = case.with("[%r1+256], 0;", "[%r1+256], 1;").findings(0);
    assert!(!message.is_empty());
    let message = case.with("[%r1+256], 64;", "[%r1+256], 65;").stops(0);
    assert!(
        message.contains("block (0,0,0)") && message.contains("an mbarrier phase"),
        "{message}"
    );
}

/// Warps 0 to 3 give registers away, warps 4 to 11 take them.
fn registers(dec: u32, inc: u32) -> Case {
    let body = format!(
        "setp.ge.u32 %p1, %r0, 128;\n@%p1 bra TAKE;\n\
         setmaxnreg.dec.sync.aligned.u32 {dec};\nbra END;\n\
         TAKE:\nsetmaxnreg.inc.sync.aligned.u32 {inc};\nEND:\nst.global.b32 [%a1], %r0;"
    );
    let ptx = module(".param .u64 out", &format!("{HEAD}{body}"));
    let ptx =
        ptx.replace("(.param .u64 out)", "(.param .u64 out)\n.maxntid 384, 1, 1\n.minnctapersm 1");
    Case::new(format!("setmaxnreg_{dec}_{inc}"), ptx, 384, 0).arg(Arg::Out(1536))
}

#[test]
fn registers_change_hands() {
    let expected: Vec<u32> = (0..384).collect();
    assert_eq!(words_of(&registers(40, 232).outputs()[0]), expected);
    assert_eq!(words_of(&registers(24, 240).outputs()[0]), expected);
    let message = registers(40, 240).stops(0);
    assert!(message.contains("deadlock") && message.contains("setmaxnreg"), "{message}");
    registers(200, 168).finds(FindingKind::Illegal, "setmaxnreg.dec to 200");
    for bad in ["20", "36", "264"] {
        let text = registers(40, 232).ptx.replace("u32 40;", &format!("u32 {bad};"));
        assert!(ptx_emulator::Module::parse(&text).is_err());
    }
}

#[test]
fn odd_numbers() {
    neighbours().survives_odd_numbers();
    remote().survives_odd_numbers();
}
