//! cp.async: groups, zero fill, mbarrier arrival, and what goes wrong without a wait.

mod tensor_support;

use ptx_emulator::FindingKind;
use tensor_support::*;

const HEAD: &str = ".reg .b32 %r<16>; .reg .b64 %a<8>; .reg .b64 %s<4>; .reg .pred %p<4>;
ld.param.u64 %a0, [in]; ld.param.u64 %a1, [out]; mov.u32 %r0, %tid.x;
mul.wide.u32 %a2, %r0, 16; add.s64 %a0, %a0, %a2; add.s64 %a1, %a1, %a2;
mov.u32 %r1, smem; mad.lo.u32 %r2, %r0, 16, %r1;
";

/// Every thread stores the 16 bytes that its right neighbour copied.
const TAIL: &str = "
add.u32 %r3, %r0, 1; and.b32 %r3, %r3, 63; mad.lo.u32 %r3, %r3, 16, %r1;
ld.shared.v4.b32 {%r4,%r5,%r6,%r7}, [%r3];
st.global.v4.b32 [%a1], {%r4,%r5,%r6,%r7};";

fn case(name: &str, body: &str, tail: &str, shared: usize) -> Case {
    let ptx = module(".param .u64 in, .param .u64 out", &format!("{HEAD}{body}{tail}"));
    let input = (0..2048u32).map(|i| i as u8 ^ (i >> 8) as u8).collect();
    Case::new(name, ptx, 64, shared).arg(Arg::In(input)).arg(Arg::Out(1024))
}

fn input(case: &Case) -> &[u8] {
    match &case.args[0] {
        Arg::In(bytes) => bytes,
        _ => panic!(),
    }
}

fn rotated(bytes: &[u8]) -> Vec<u8> {
    [&bytes[16..1024], &bytes[..16]].concat()
}

fn plain() -> Case {
    case(
        "cp_async",
        "cp.async.cg.shared.global.L2::128B [%r2], [%a0], 16;
cp.async.commit_group;
cp.async.wait_group 0;
bar.sync 0;",
        TAIL,
        1024,
    )
}

#[test]
fn a_group_arrives_at_its_wait() {
    let case = plain();
    assert_eq!(case.outputs()[0], rotated(input(&case)));
    let (_, report) = case.launch(0).unwrap();
    assert_eq!(report.counters.bytes.global_read, 1024);
    assert_eq!(report.counters.families["cp.async"], 6);
    let all = case.with("cp.async.commit_group;", "").with("wait_group 0", "wait_all");
    assert_eq!(all.outputs()[0], rotated(input(&case)));
}

#[test]
fn small_and_partial_copies() {
    let pieces = case(
        "cp_async_pieces",
        "cp.async.ca.shared::cta.global [%r2], [%a0], 4;
cp.async.ca.shared::cta.global [%r2+8], [%a0+8], 8;
cp.async.ca.shared::cta.global [%r2+4], [%a0+4], 4, 3;
cp.async.wait_all;
bar.sync 0;",
        TAIL,
        1024,
    );
    let expected = |zero: fn(usize, usize) -> bool| {
        let all = input(&pieces)[..1024].iter().enumerate();
        let cut = all.map(|(i, byte)| if zero(i / 16, i % 16) { 0 } else { *byte });
        rotated(&cut.collect::<Vec<_>>())
    };
    assert_eq!(pieces.outputs()[0], expected(|_, byte| byte == 7));
    // Thread t reads t % 17 bytes of 16; with 0 bytes the source may lie outside.
    let partial = case(
        "cp_async_partial",
        "rem.u32 %r8, %r0, 17; setp.eq.u32 %p0, %r8, 0; selp.b64 %s0, 0, %a0, %p0;
cp.async.cg.shared.global [%r2], [%s0], 16, %r8;
cp.async.wait_all;
bar.sync 0;",
        TAIL,
        1024,
    );
    assert_eq!(partial.outputs()[0], expected(|thread, byte| byte >= thread % 17));
    let ignored = case(
        "cp_async_ignored",
        "and.b32 %r8, %r0, 1; setp.eq.u32 %p0, %r8, 0;
cp.async.cg.shared.global [%r2], [%a0], 16, %p0;
cp.async.wait_all;
bar.sync 0;",
        TAIL,
        1024,
    );
    assert_eq!(ignored.outputs()[0], expected(|thread, _| thread % 2 == 0));
    let policy = plain().with("16;\ncp.async.commit", "16, %s0;\ncp.async.commit").with(
        "cp.async.cg.shared.global.L2::128B",
        "createpolicy.fractional.L2::evict_first.b64 %s0, 1.0;\n\
         cp.async.cg.shared.global.L2::cache_hint.L2::128B",
    );
    assert_eq!(policy.outputs()[0], rotated(input(&policy)));
}

/// Two stages: the wait may leave the newest group under way.
fn two_groups() -> Case {
    case(
        "cp_async_two_groups",
        "cp.async.cg.shared.global [%r2], [%a0], 16;
cp.async.commit_group;
cp.async.cg.shared.global [%r2+1024], [%a0+1024], 16;
cp.async.commit_group;
cp.async.wait_group 1;
bar.sync 0;",
        &format!("{TAIL}\ncp.async.wait_group 0;"),
        2048,
    )
}

#[test]
fn groups_are_waited_for_by_age() {
    let case = two_groups();
    assert_eq!(case.outputs()[0], rotated(input(&case)));
    // Reading the second group after that wait is too early.
    let early = case.with(
        "ld.shared.v4.b32 {%r4,%r5,%r6,%r7}, [%r3]",
        "ld.shared.v4.b32 {%r4,%r5,%r6,%r7}, [%r3+1024]",
    );
    early.finds(FindingKind::Poison, "stored");
    early.finds(FindingKind::Race, "while an asynchronous copy of warp");
    case.with("wait_group 1", "wait_group 2").finds(FindingKind::Poison, "stored");
}

#[test]
fn what_a_missing_wait_or_barrier_does() {
    let case = plain();
    case.with("cp.async.wait_group 0;", "").finds(FindingKind::Poison, "stored");
    case.with("cp.async.commit_group;", "").finds(FindingKind::Poison, "stored");
    case.with("bar.sync 0;", "").finds(FindingKind::Race, "shared address");
    // The next copy into bytes that the others still read.
    let again = case.with(
        "st.global.v4.b32",
        "cp.async.cg.shared.global [%r2], [%a0+1024], 16;\ncp.async.wait_all;\nst.global.v4.b32",
    );
    again.finds(FindingKind::Race, "asynchronous write of shared address");
    case.with("[%a0], 16", "[%a0+4], 16").finds(FindingKind::Misaligned, "global");
    case.with("[%a0], 16", "[%a0+1040], 16").finds(FindingKind::OutOfBounds, "16 bytes");
    case.with("[%r2], [%a0]", "[%r2+8], [%a0]").finds(FindingKind::Misaligned, "shared");
}

/// The barrier at 1024 gets an arrival per thread when its copies are complete.
fn on_mbarrier(noinc: bool) -> Case {
    let (suffix, count) = if noinc { (".noinc", 64) } else { ("", 1) };
    let more = if noinc { "" } else { "bar.sync 0;\n@%p0 mbarrier.arrive.shared.b64 _, [%r9];\n" };
    case(
        &format!("cp_async_mbarrier{}", suffix.replace('.', "_")),
        &format!(
            "add.u32 %r9, %r1, 1024; setp.eq.u32 %p0, %r0, 0;
@%p0 mbarrier.init.shared.b64 [%r9], {count};
bar.sync 0;
cp.async.cg.shared.global [%r2], [%a0], 16;
cp.async.mbarrier.arrive{suffix}.shared.b64 [%r9];
{more}WAIT:
mbarrier.try_wait.parity.shared.b64 %p1, [%r9], 0;
@!%p1 bra WAIT;"
        ),
        TAIL,
        1040,
    )
}

#[test]
fn copies_arrive_on_an_mbarrier() {
    for noinc in [true, false] {
        let case = on_mbarrier(noinc);
        assert_eq!(case.outputs()[0], rotated(input(&case)));
    }
    // Without the wait nothing orders the copies of the other threads before the loads.
    on_mbarrier(true)
        .with("@!%p1 bra WAIT;", "")
        .with("mbarrier.try_wait.parity.shared.b64 %p1, [%r9], 0;", "")
        .finds(FindingKind::Race, "while an asynchronous copy");
}

#[test]
fn odd_numbers() {
    two_groups().survives_odd_numbers();
    on_mbarrier(true).survives_odd_numbers();
}
