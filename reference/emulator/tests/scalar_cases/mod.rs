//! The scalar instruction forms that are compared with hardware, and their inputs.
//!
//! In a form, `A`, `B`, `C` are source registers, `D` is the destination.

/// What a register holds: how wide it is, and which inputs are interesting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    I16,
    I32,
    I64,
    /// Small numbers: shift counts, lanes, bit positions.
    Small,
    F16,
    Bf16,
    F32,
    F64,
    F16x2,
    Bf16x2,
}
use Class::*;

/// Inputs of every form.
pub const COUNT: usize = 2048;

pub struct Case {
    pub form: String,
    pub out: Class,
    pub sources: Vec<Class>,
}

impl Class {
    pub fn bits(self) -> u32 {
        match self {
            I16 | F16 | Bf16 => 16,
            I32 | Small | F32 | F16x2 | Bf16x2 => 32,
            I64 | F64 => 64,
        }
    }

    fn special(self) -> &'static [u64] {
        match self {
            I16 => &[0, 1, 2, 0x7fff, 0x8000, 0xffff, 0x8001, 100],
            I32 => {
                &[0, 1, 2, 3, 31, 32, 33, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff, 255, 256]
            }
            I64 => &[0, 1, 2, 63, 64, 65, i64::MAX as u64, 1 << 63, u64::MAX, 0xffff_ffff, 1 << 32],
            Small => &[0, 1, 31, 32, 33],
            F16 => &[
                0, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0xfe01, 1, 0x8001, 0x3ff, 0x400,
                0x7bff, 0xfbff, 0x3800, 0x4100,
            ],
            Bf16 => &[
                0, 0x8000, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc0, 0xffc1, 1, 0x8001, 0x7f, 0x80,
                0x7f7f, 0xff7f, 0x3f00, 0x4020,
            ],
            F32 => &[
                0,
                0x8000_0000,
                0x3f80_0000,
                0xbf80_0000,
                0x7f80_0000,
                0xff80_0000,
                0x7fc0_0000,
                0xffc1_2345,
                0x7f81_2345,
                1,
                0x8000_0001,
                0x7f_ffff,
                0x80_0000,
                0x7f7f_ffff,
                0x3f00_0000,
                0x4020_0000,
                0xc020_0000,
                0x4f00_0000,
                0x5f00_0000,
                0x477f_e000,
                0x477f_f000,
                0x3380_0000,
                0x3f7f_ffff,
                0x7e80_0001,
            ],
            F64 => &[
                0,
                1 << 63,
                0x3ff0 << 48,
                0xbff0 << 48,
                0x7ff0 << 48,
                0xfff0 << 48,
                0x7ff8 << 48,
                1,
                0x7fef_ffff_ffff_ffff,
                0x4004 << 48,
                0x3690 << 48,
                0x47ef_ffff_e000_0000,
                0x47ef_ffff_f000_0000,
                0x41df_ffff_ffc0_0000,
                0x43e0 << 48,
            ],
            F16x2 | Bf16x2 => &[],
        }
    }

    /// The inputs of operand `slot` (0 to 2): products of special values first, then random ones.
    pub fn inputs(self, slot: usize) -> Vec<u64> {
        if let Some(half) = match self {
            F16x2 => Some(F16),
            Bf16x2 => Some(Bf16),
            _ => None,
        } {
            let low = half.inputs(slot);
            return (0..COUNT).map(|i| low[i] | low[(i + 1971) % COUNT] << 16).collect();
        }
        let special = self.special();
        let squares = (special.len() * special.len()).min(COUNT / 2);
        let mut state = 0x1234_5678 + slot as u64;
        let mut random = move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        (0..COUNT)
            .map(|i| {
                let (r, how) = (random(), random());
                let pick = match slot {
                    0 => i / special.len(),
                    1 => i,
                    _ => i * 7 + i / special.len(),
                };
                if i < squares {
                    special[pick % special.len()]
                } else if how.is_multiple_of(10) {
                    special[(how / 10) as usize % special.len()]
                } else {
                    self.random(r, how / 10)
                }
            })
            .collect()
    }

    fn random(self, r: u64, how: u64) -> u64 {
        // Half of the floats have exponents close to 1.0, so that sums round.
        let float = |fraction: u32, exponent: u32| {
            let bias = (1 << (exponent - 1)) - 1;
            let near = bias - 6 + how % 13;
            let any = (how >> 8) & ((1 << exponent) - 1);
            let chosen = if how & (1 << 40) == 0 { near } else { any };
            let sign = r >> 63 << (fraction + exponent);
            sign | chosen << fraction | r & ((1 << fraction) - 1)
        };
        match self {
            I16 => r & 0xffff,
            I32 => (r & 0xffff_ffff) >> if how & 1 == 0 { how / 2 % 31 } else { 0 },
            I64 => r >> if how & 1 == 0 { how / 2 % 63 } else { 0 },
            Small => r % 40,
            F16 => float(10, 5),
            Bf16 => float(7, 8),
            F32 => float(23, 8),
            F64 => float(52, 11),
            F16x2 | Bf16x2 => 0,
        }
    }
}

/// The class of an integer or float type suffix.
fn class(ty: &str) -> Class {
    match ty {
        "f16" => F16,
        "bf16" => Bf16,
        "f32" => F32,
        "f64" => F64,
        "f16x2" => F16x2,
        "bf16x2" => Bf16x2,
        _ => match ty[1..].parse() {
            Ok(8 | 16) => I16,
            Ok(32) => I32,
            _ => I64,
        },
    }
}

/// All forms.
pub fn cases() -> Vec<Case> {
    let mut list = Vec::new();
    integers(&mut list);
    bits(&mut list);
    comparisons(&mut list);
    floats(&mut list);
    conversions(&mut list);
    lanes(&mut list);
    list
}

fn add(list: &mut Vec<Case>, form: impl Into<String>, out: Class, sources: &[Class]) {
    list.push(Case { form: form.into(), out, sources: sources.to_vec() });
}

fn integers(list: &mut Vec<Case>) {
    for ty in ["u16", "s16", "u32", "s32", "u64", "s64"] {
        let (c, bits) = (class(ty), &ty[1..]);
        for op in ["add", "sub", "mul.lo", "mul.hi", "min", "max"] {
            add(list, format!("{op}.{ty} D, A, B;"), c, &[c, c]);
        }
        for op in ["mad.lo", "sad"] {
            add(list, format!("{op}.{ty} D, A, B, C;"), c, &[c, c, c]);
        }
        for op in ["div", "rem"] {
            add(list, format!("or.b{bits} B, B, 1; {op}.{ty} D, A, B;"), c, &[c, c]);
        }
        if bits != "64" {
            let wide = if bits == "16" { I32 } else { I64 };
            add(list, format!("mul.wide.{ty} D, A, B;"), wide, &[c, c]);
            add(list, format!("mad.wide.{ty} D, A, B, C;"), wide, &[c, c, wide]);
        }
        if bits != "16" {
            add(list, format!("mad.hi.{ty} D, A, B, C;"), c, &[c, c, c]);
        }
        if ty.starts_with('s') {
            add(list, format!("abs.{ty} D, A;"), c, &[c]);
            add(list, format!("neg.{ty} D, A;"), c, &[c]);
        }
    }
    for op in ["add.sat.s32", "sub.sat.s32"] {
        add(list, format!("{op} D, A, B;"), I32, &[I32; 2]);
    }
    add(list, "mad.hi.sat.s32 D, A, B, C;", I32, &[I32; 3]);
    for op in ["lo.u32", "hi.u32", "lo.s32", "hi.s32"] {
        add(list, format!("mul24.{op} D, A, B;"), I32, &[I32; 2]);
    }
    for half in ["lo.u32", "hi.u32", "lo.s32", "hi.s32"] {
        let (half, ty) = half.split_once('.').unwrap_or_default();
        let form = format!("{{ .reg .b32 t; mad.{half}.cc.{ty} t, A, B, C; addc.u32 D, t, 7; }}");
        add(list, form, I32, &[I32; 3]);
        let form = format!("{{ .reg .b32 t; add.cc.u32 t, B, C; madc.{half}.{ty} D, A, B, C; }}");
        add(list, form, I32, &[I32; 3]);
    }
    for (bits, c) in [("32", I32), ("64", I64)] {
        for op in ["add", "sub"] {
            let form =
                format!("{{ .reg .b{bits} t; {op}.cc.u{bits} t, A, B; {op}c.u{bits} D, C, 0; }}");
            add(list, form, c, &[c; 3]);
        }
    }
}

fn bits(list: &mut Vec<Case>) {
    for ty in ["b16", "b32", "b64"] {
        let c = class(ty);
        for op in ["and", "or", "xor"] {
            add(list, format!("{op}.{ty} D, A, B;"), c, &[c, c]);
        }
        for op in ["not", "cnot"] {
            add(list, format!("{op}.{ty} D, A;"), c, &[c]);
        }
        add(list, format!("shl.{ty} D, A, B;"), c, &[c, Small]);
    }
    for ty in ["u16", "s16", "u32", "s32", "u64", "s64"] {
        add(list, format!("shr.{ty} D, A, B;"), class(ty), &[class(ty), Small]);
    }
    for ty in ["u32", "s32", "u64", "s64"] {
        let c = class(ty);
        add(list, format!("bfe.{ty} D, A, B, C;"), c, &[c, Small, Small]);
        add(list, format!("bfind.{ty} D, A;"), I32, &[c]);
        add(list, format!("bfind.shiftamt.{ty} D, A;"), I32, &[c]);
    }
    for ty in ["b32", "b64"] {
        let c = class(ty);
        add(list, format!("popc.{ty} D, A;"), I32, &[c]);
        add(list, format!("clz.{ty} D, A;"), I32, &[c]);
        add(list, format!("brev.{ty} D, A;"), c, &[c]);
        add(list, format!("bfi.{ty} D, A, C, B, 9;"), c, &[c, Small, c]);
    }
    for mode in ["l.wrap", "r.wrap", "l.clamp", "r.clamp"] {
        add(list, format!("shf.{mode}.b32 D, A, B, C;"), I32, &[I32, I32, Small]);
    }
    for mode in ["", ".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"] {
        add(list, format!("prmt.b32{mode} D, A, B, C;"), I32, &[I32; 3]);
    }
    for table in [0x80, 0xe8, 0x96, 0x1b, 0xfe] {
        add(list, format!("lop3.b32 D, A, B, C, {table};"), I32, &[I32; 3]);
    }
    for offset in [2, 0, -2] {
        add(list, format!("fns.b32 D, A, B, {offset};"), I32, &[I32, Small]);
    }
    add(list, "{ .reg .b16 l, h; mov.b32 {l, h}, A; mov.b32 D, {h, l}; }", I32, &[I32]);
}

fn comparisons(list: &mut Vec<Case>) {
    let ordered = ["eq", "ne", "lt", "le", "gt", "ge"];
    let unordered = ["equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];
    let mut setp = |how: &str, ty: &str, c: Class| {
        let form = format!("{{ .reg .pred p; setp.{how}.{ty} p, A, B; selp.u32 D, 1, 0, p; }}");
        add(list, form, I32, &[c, c]);
    };
    for how in ordered {
        for ty in ["s16", "u16", "s32", "u32", "s64", "u64"] {
            setp(how, ty, class(ty));
        }
    }
    for how in ordered.into_iter().chain(unordered) {
        for ty in ["f16", "bf16", "f32", "f64"] {
            setp(how, ty, class(ty));
        }
        setp(&format!("{how}.ftz"), "f32", F32);
    }
    let pair =
        "{ .reg .pred p, q; setp.lt.f16x2 p|q, A, B; selp.u32 D, 1, 0, p; @q or.b32 D, D, 2; }";
    add(list, pair, I32, &[F16x2; 2]);
    add(list, "slct.u32.s32 D, A, B, C;", I32, &[I32; 3]);
    for ftz in ["", ".ftz"] {
        add(list, format!("slct{ftz}.u32.f32 D, A, B, C;"), I32, &[I32, I32, F32]);
    }
    add(list, "set.lt.u32.f32 D, A, B;", I32, &[F32; 2]);
    add(list, "set.ge.f32.f32 D, A, B;", F32, &[F32; 2]);
}

fn floats(list: &mut Vec<Case>) {
    let sixteen = ["f16", "f16x2", "bf16", "bf16x2"];
    for op in ["add", "sub", "mul"] {
        for options in combinations(&[&[".rn", ".rz", ".rm", ".rp"], &["", ".ftz"], &["", ".sat"]])
        {
            add(list, format!("{op}{options}.f32 D, A, B;"), F32, &[F32; 2]);
        }
        add(list, format!("{op}.rn.f64 D, A, B;"), F64, &[F64; 2]);
        for options in combinations(&[&["", ".rn"], &["", ".ftz"], &["", ".sat"]]) {
            add(list, format!("{op}{options}.f16 D, A, B;"), F16, &[F16; 2]);
            add(list, format!("{op}{options}.f16x2 D, A, B;"), F16x2, &[F16x2; 2]);
        }
        add(list, format!("{op}.bf16 D, A, B;"), Bf16, &[Bf16; 2]);
        add(list, format!("{op}.rn.bf16x2 D, A, B;"), Bf16x2, &[Bf16x2; 2]);
    }
    for options in combinations(&[&[".rn", ".rz", ".rm", ".rp"], &["", ".ftz"], &["", ".sat"]]) {
        add(list, format!("fma{options}.f32 D, A, B, C;"), F32, &[F32; 3]);
    }
    add(list, "fma.rn.f64 D, A, B, C;", F64, &[F64; 3]);
    for options in combinations(&[&["", ".ftz"], &["", ".sat", ".relu"]]) {
        add(list, format!("fma.rn{options}.f16 D, A, B, C;"), F16, &[F16; 3]);
        add(list, format!("fma.rn{options}.f16x2 D, A, B, C;"), F16x2, &[F16x2; 3]);
    }
    for relu in ["", ".relu"] {
        add(list, format!("fma.rn{relu}.bf16 D, A, B, C;"), Bf16, &[Bf16; 3]);
        add(list, format!("fma.rn{relu}.bf16x2 D, A, B, C;"), Bf16x2, &[Bf16x2; 3]);
    }
    for op in ["min", "max"] {
        for options in combinations(&[&["", ".ftz"], &["", ".NaN"]]) {
            for ty in ["f32", "f16", "f16x2", "bf16", "bf16x2"] {
                if !(ty.starts_with('b') && options.contains("ftz")) {
                    let form = format!("{op}{options}.{ty} D, A, B;");
                    add(list, form, class(ty), &[class(ty); 2]);
                }
            }
        }
        add(list, format!("{op}.f64 D, A, B;"), F64, &[F64; 2]);
    }
    for op in ["abs", "neg"] {
        for ty in ["f32", "f64"].into_iter().chain(sixteen) {
            add(list, format!("{op}.{ty} D, A;"), class(ty), &[class(ty)]);
        }
        add(list, format!("{op}.ftz.f32 D, A;"), F32, &[F32]);
    }
    for ty in ["f32", "f64"] {
        let c = class(ty);
        add(list, format!("copysign.{ty} D, A, B;"), c, &[c; 2]);
        for kind in ["finite", "infinite", "number", "notanumber", "normal", "subnormal"] {
            let form = format!("{{ .reg .pred p; testp.{kind}.{ty} p, A; selp.u32 D, 1, 0, p; }}");
            add(list, form, I32, &[c]);
        }
        add(list, format!("div.rn.{ty} D, A, B;"), c, &[c; 2]);
        add(list, format!("rcp.rn.{ty} D, A;"), c, &[c]);
        add(list, format!("sqrt.rn.{ty} D, A;"), c, &[c]);
    }
    add(list, "div.rn.ftz.f32 D, A, B;", F32, &[F32; 2]);
    add(list, "rcp.rn.ftz.f32 D, A;", F32, &[F32]);
    add(list, "sqrt.rn.ftz.f32 D, A;", F32, &[F32]);
}

fn conversions(list: &mut Vec<Case>) {
    let integers = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];
    let range = |ty: &str| {
        let bits: u32 = ty[1..].parse().unwrap_or(64);
        match ty.starts_with('s') {
            true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
            false => (0, (1i128 << bits) - 1),
        }
    };
    for to in integers {
        for from in integers.into_iter().filter(|from| *from != to) {
            add(list, format!("cvt.{to}.{from} D, A;"), class(to), &[class(from)]);
            // ptxas refuses .sat where nothing can overflow.
            if range(from).0 < range(to).0 || range(from).1 > range(to).1 {
                add(list, format!("cvt.sat.{to}.{from} D, A;"), class(to), &[class(from)]);
            }
        }
        for float in ["f16", "f32", "f64"] {
            for mode in ["rn", "rz", "rm", "rp"] {
                add(list, format!("cvt.{mode}.{float}.{to} D, A;"), class(float), &[class(to)]);
                add(list, format!("cvt.{mode}i.{to}.{float} D, A;"), class(to), &[class(float)]);
            }
        }
        add(list, format!("cvt.rni.ftz.{to}.f32 D, A;"), class(to), &[F32]);
        if class(to) != I16 || to.ends_with("16") {
            add(list, format!("cvt.rn.bf16.{to} D, A;"), Bf16, &[class(to)]);
            add(list, format!("cvt.rzi.{to}.bf16 D, A;"), class(to), &[Bf16]);
            add(list, format!("cvt.rni.{to}.bf16 D, A;"), class(to), &[Bf16]);
        }
    }
    add(list, "cvt.s32.s8 D, A;", I32, &[I32]);
    add(list, "cvt.s64.s16 D, A;", I64, &[I32]);
    for options in combinations(&[&[".rn", ".rz", ".rm", ".rp"], &["", ".ftz"], &["", ".sat"]]) {
        add(list, format!("cvt{options}.f16.f32 D, A;"), F16, &[F32]);
        add(list, format!("cvt{options}.f32.f64 D, A;"), F32, &[F64]);
    }
    for mode in ["rn", "rz", "rm", "rp"] {
        add(list, format!("cvt.{mode}.f16.f64 D, A;"), F16, &[F64]);
        add(list, format!("cvt.{mode}i.f16.f16 D, A;"), F16, &[F16]);
        add(list, format!("cvt.{mode}i.f32.f32 D, A;"), F32, &[F32]);
        add(list, format!("cvt.{mode}i.ftz.f32.f32 D, A;"), F32, &[F32]);
        add(list, format!("cvt.{mode}i.f64.f64 D, A;"), F64, &[F64]);
    }
    for options in combinations(&[&["", ".ftz"], &["", ".sat"]]) {
        add(list, format!("cvt{options}.f32.f16 D, A;"), F32, &[F16]);
        add(list, format!("cvt{options}.f64.f32 D, A;"), F64, &[F32]);
        add(list, format!("cvt{options}.f32.f32 D, A;"), F32, &[F32]);
    }
    add(list, "cvt.f64.f16 D, A;", F64, &[F16]);
    add(list, "cvt.f32.bf16 D, A;", F32, &[Bf16]);
    for options in combinations(&[&[".rn", ".rz"], &["", ".relu"]]) {
        add(list, format!("cvt{options}.f16x2.f32 D, A, B;"), F16x2, &[F32; 2]);
        add(list, format!("cvt{options}.bf16x2.f32 D, A, B;"), Bf16x2, &[F32; 2]);
        add(list, format!("cvt{options}.bf16.f32 D, A;"), Bf16, &[F32]);
        add(list, format!("cvt{options}.tf32.f32 D, A;"), I32, &[F32]);
    }
    add(list, "cvt.rna.tf32.f32 D, A;", I32, &[F32]);
}

fn lanes(list: &mut Vec<Case>) {
    for mode in ["up", "down", "bfly", "idx"] {
        for c in ["31", "0", "0x1c1f", "0x181f", "0x0f07", "7", "0x1800"] {
            let form = format!(
                "{{ .reg .pred p; .reg .b32 q; shfl.sync.{mode}.b32 D|p, A, B, {c}, -1; \
                 selp.u32 q, 0x80000000, 0, p; xor.b32 D, D, q; }}"
            );
            add(list, form, I32, &[I32, Small]);
        }
    }
    let ballot = "{ .reg .pred p; setp.lt.s32 p, A, 0; vote.sync.ballot.b32 D, p, -1; }";
    add(list, ballot, I32, &[I32]);
    for mode in ["all", "any", "uni"] {
        let form = format!(
            "{{ .reg .pred p; setp.lt.s32 p, A, 1000; vote.sync.{mode}.pred p, p, -1; \
             selp.u32 D, 1, 0, p; }}"
        );
        add(list, form, I32, &[I32]);
    }
    add(list, "and.b32 A, A, 3; match.any.sync.b32 D, A, -1;", I32, &[I32]);
    for mask in ["0", "-1"] {
        let form = format!(
            "{{ .reg .pred p; .reg .b32 q; and.b32 A, A, {mask}; \
             match.all.sync.b32 D|p, A, -1; selp.u32 q, 5, 0, p; xor.b32 D, D, q; }}"
        );
        add(list, form, I32, &[I32]);
    }
    for op in
        ["add.u32", "min.u32", "max.u32", "min.s32", "max.s32", "and.b32", "or.b32", "xor.b32"]
    {
        add(list, format!("redux.sync.{op} D, A, -1;"), I32, &[I32]);
    }
}

/// Every choice of one of each.
fn combinations(choices: &[&[&str]]) -> Vec<String> {
    choices.iter().fold(vec![String::new()], |all, next| {
        all.iter().flat_map(|head| next.iter().map(move |tail| format!("{head}{tail}"))).collect()
    })
}
