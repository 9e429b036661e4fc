//! Kernels of one warpgroup that multiply tiles lying in shared memory in every way that matrix
//! descriptors know.

use super::tensor_support::*;
use ptx_emulator::family::tensor_map::Swizzle;

/// How a tile lies in shared memory: its own description of what `descriptor.rs` describes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    pub swizzle: Swizzle,
    /// Rows (of A) or columns (of B) are contiguous, not K.
    pub mn_major: bool,
}

impl Layout {
    fn chunks(self) -> usize {
        self.swizzle.span() / 16
    }

    /// Leading and stride byte offsets for a tile of `mn` by `k` (numbers of 16 bits).
    fn offsets(self, mn: usize, k: usize) -> (usize, usize) {
        match (self.swizzle, self.mn_major) {
            // Core matrices of 128 bytes, one after the other along K resp. along MN.
            (Swizzle::None, false) => (128, 16 * k),
            (Swizzle::None, true) => (16 * mn, 128),
            // Tiles wider than a span (sparse, 32 bytes) are slabs side by side.
            (swizzle, false) if 2 * k > swizzle.span() => (mn * swizzle.span(), 8 * swizzle.span()),
            (swizzle, false) => (16, 8 * swizzle.span()),
            // Slabs of a span's width and all of k.
            (swizzle, true) => (swizzle.span() * k, 8 * swizzle.span()),
        }
    }

    /// Byte offset of an element from the start of the tile.
    pub fn at(self, mn: usize, k: usize, extent: (usize, usize)) -> usize {
        let (leading, stride) = self.offsets(extent.0, extent.1);
        let chunks = self.chunks();
        let (along, across) = if self.mn_major { (mn, k) } else { (k, mn) };
        if self.swizzle == Swizzle::None {
            // `across` is a row of a core matrix, `along` a number in it.
            let core = across % 8 * 16 + along % 8 * 2;
            return core + mn / 8 * stride + k / 8 * leading;
        }
        let (chunk, byte) = (along / 8, along % 8 * 2);
        let slab = chunk / chunks * leading;
        let chunk = (chunk % chunks) as u32;
        slab + layout::swizzle::offset(across as u32, chunk, chunks as u32) as usize + byte
    }

    /// Bytes from the first to the last of a tile, in steps of 1024.
    pub fn bytes(self, mn: usize, k: usize) -> usize {
        let spread = match self.mn_major {
            false => mn * (2 * k).max(self.swizzle.span()),
            true => mn.next_multiple_of(8 * self.chunks()) * k * 2,
        };
        spread.next_multiple_of(1024)
    }

    /// The descriptor's bits but the address.
    pub fn descriptor(self, mn: usize, k: usize) -> u64 {
        let (leading, stride) = self.offsets(mn, k);
        let mode = match self.swizzle {
            Swizzle::None => 0,
            Swizzle::B128 => 1,
            Swizzle::B64 => 2,
            Swizzle::B32 => 3,
        };
        mode << 62 | (stride as u64 / 16) << 32 | (leading as u64 / 16) << 16
    }

    pub fn name(self) -> String {
        format!("{:?}{}", self.swizzle, if self.mn_major { "mn" } else { "k" })
    }

    /// Writes a matrix (`value(mn, k)`) into an image.
    fn lay(self, image: &mut [u8], extent: (usize, usize), value: impl Fn(usize, usize) -> u16) {
        for mn in 0..extent.0 {
            for k in 0..extent.1 {
                let at = self.at(mn, k, extent);
                image[at..at + 2].copy_from_slice(&value(mn, k).to_le_bytes());
            }
        }
    }
}

pub const K_MAJOR: Layout = Layout { swizzle: Swizzle::B128, mn_major: false };

/// A product `D = A . B + C` of one warpgroup.
#[derive(Clone, Debug)]
pub struct Gemm {
    pub n: usize,
    /// K of the whole product: a multiple of 64.
    pub k: usize,
    pub bf16: bool,
    pub f16_sums: bool,
    pub sparse: bool,
    /// Where A lies; in registers if `None`.
    pub a: Option<Layout>,
    pub b: Layout,
    /// imm-scale-a and imm-scale-b.
    pub scales: (i32, i32),
    /// Whether C is added (else scale-d is 0 at first).
    pub adds: bool,
    /// Lines of 128 bytes by which B's tiles are moved, their swizzle pattern with them.
    pub base: usize,
    /// Whether every instruction is a group of its own, of which one may be in flight.
    pub groups: bool,
}

impl Gemm {
    pub fn new(n: usize) -> Self {
        Self {
            n,
            k: 64,
            bf16: false,
            f16_sums: false,
            sparse: false,
            a: Some(K_MAJOR),
            b: K_MAJOR,
            scales: (1, 1),
            adds: true,
            base: 0,
            groups: false,
        }
    }

    fn registers(&self) -> usize {
        if self.f16_sums { self.n / 4 } else { self.n / 2 }
    }

    /// K of an instruction, and K of A as it is stored.
    fn steps(&self) -> (usize, usize) {
        if self.sparse { (32, 16) } else { (16, 16) }
    }

    pub fn name(&self) -> String {
        format!(
            "wgmma_n{}_k{}_{}_{}{}_{}_{}_{}{}{}{}{}",
            self.n,
            self.k,
            if self.bf16 { "bf16" } else { "f16" },
            if self.f16_sums { "f16" } else { "f32" },
            if self.sparse { "_sp" } else { "" },
            self.a.map_or("regs".into(), Layout::name),
            self.b.name(),
            if self.adds { "add" } else { "set" },
            if self.scales.0 < 0 { "_nega" } else { "" },
            if self.scales.1 < 0 { "_negb" } else { "" },
            if self.base > 0 { format!("_base{}", self.base) } else { String::new() },
            if self.groups { "_groups" } else { "" },
        )
    }

    /// Bytes from one instruction's part of a tile to the next: the descriptor moves along K by it.
    /// Tiles of K-major layouts hold all of K side by side where the span allows it.
    fn step_bytes(layout: Layout, mn: usize, stored: usize) -> (usize, usize) {
        // K of one tile: what fits a span (K-major), or an instruction's.
        let k = match (layout.mn_major, layout.swizzle) {
            (false, Swizzle::None) | (true, _) => stored,
            (false, swizzle) => stored.max(swizzle.span() / 2),
        };
        (k, layout.bytes(mn, k))
    }

    /// Case and expected D. Threads load C (and A, metadata) from global memory register by register,
    /// A and B tiles are copied to shared memory as they are.
    pub fn case(&self) -> (Case, Matrix) {
        let mut numbers = Numbers::new((self.n + self.k) as u64);
        let sparse = sparse(&mut numbers, 64, self.k);
        let (dense, kept) = if self.sparse {
            (sparse.dense, sparse.kept)
        } else {
            let a = numbers.matrix(64, self.k);
            (a.clone(), a)
        };
        let b = numbers.matrix(self.k, self.n);
        let c = numbers.matrix(64, self.n);
        let (step_k, stored) = self.steps();
        let steps = self.k / step_k;
        let mut image = Vec::new();
        // Offset from the start of shared memory and descriptor of every instruction's A and B.
        let place = |image: &mut Vec<u8>,
                     (layout, base): (Layout, usize),
                     mn: usize,
                     stored: usize,
                     value: &dyn Fn(usize, usize) -> f64| {
            let (tile_k, tile_bytes) = Self::step_bytes(layout, mn, stored);
            let first = image.len() + 128 * base;
            let tiles = (steps * stored).div_ceil(tile_k);
            image.resize(first + tiles * tile_bytes, 0);
            for tile in 0..tiles {
                let part = &mut image[first + tile * tile_bytes..][..tile_bytes];
                layout.lay(part, (mn, tile_k), |mn, k| {
                    let k = tile * tile_k + k;
                    if k < steps * stored { half_bits(value(mn, k), self.bf16) } else { 0 }
                });
            }
            (0..steps)
                .map(|step| {
                    let (tile, inside) = (step * stored / tile_k, step * stored % tile_k);
                    let at = first + tile * tile_bytes + inside * 2;
                    (at, layout.descriptor(mn, tile_k) | (base as u64) << 49)
                })
                .collect::<Vec<_>>()
        };
        let a_places =
            self.a.map(|layout| place(&mut image, (layout, 0), 64, stored, &|m, k| kept.at(m, k)));
        let b_places = place(&mut image, (self.b, self.base), self.n, step_k, &|n, k| b.at(k, n));
        image.resize(image.len().next_multiple_of(2048), 0);
        let shared = image.len();
        let mut words = Vec::new();
        for i in 0..self.registers() {
            words.extend((0..128u32).map(|thread| self.c_word(&c, thread, i as u32)));
        }
        if self.a.is_none() {
            for step in 0..steps {
                for i in 0..4u32 {
                    words.extend((0..128u32).map(|thread| {
                        let half = |h| {
                            let (row, column) = layout::fragment::a(thread % 32, 2 * i + h);
                            let row = row as usize + 16 * (thread / 32) as usize;
                            half_bits(kept.at(row, column as usize + 16 * step), self.bf16).into()
                        };
                        let (low, high): (u32, u32) = (half(0), half(1));
                        low | high << 16
                    }));
                }
            }
        }
        let loaded = self.registers() + if self.a.is_none() { 4 * steps } else { 0 };
        if self.sparse {
            for block in 0..self.k / 64 {
                words.extend((0..128).map(|thread: usize| {
                    sparse.metadata[(thread / 32 * (self.k / 64) + block) * 32 + thread % 32]
                }));
            }
        }
        let ptx = self.text(loaded, steps, shared, a_places.as_deref(), &b_places);
        let case = Case::new(self.name(), ptx, 128, shared)
            .arg(Arg::In(bytes_of(&words)))
            .arg(Arg::In(image))
            .arg(Arg::Out(512 * self.registers()));
        let sign = f64::from(self.scales.0 * self.scales.1);
        let start = if self.adds { c } else { Matrix::zeros(64, self.n) };
        let mut signed = dense;
        signed.values.iter_mut().for_each(|v| *v *= sign);
        (case, signed.times(&b, &start))
    }

    fn c_word(&self, c: &Matrix, thread: u32, i: u32) -> u32 {
        let value = |i: u32| {
            let (row, column) = Self::place(thread, i);
            c.at(row, column)
        };
        if self.f16_sums {
            u32::from(half_bits(value(2 * i), false))
                | u32::from(half_bits(value(2 * i + 1), false)) << 16
        } else {
            (value(i) as f32).to_bits()
        }
    }

    /// Row and column of accumulator element `i` of a thread.
    fn place(thread: u32, i: u32) -> (usize, usize) {
        let (row, column) = layout::fragment::accumulator(thread % 32, i % 4);
        ((row + 16 * (thread / 32)) as usize, (column + 8 * (i / 4)) as usize)
    }

    /// D from the output words `[register][thread]`.
    pub fn result(&self, words: &[u32]) -> Matrix {
        let mut out = Matrix::zeros(64, self.n);
        for thread in 0..128u32 {
            for i in 0..self.n as u32 / 2 {
                let (row, column) = Self::place(thread, i);
                out.values[row * self.n + column] = if self.f16_sums {
                    let word = words[(i / 2 * 128 + thread) as usize];
                    half::f16::from_bits((word >> (16 * (i % 2))) as u16).to_f64()
                } else {
                    f32::from_bits(words[(i * 128 + thread) as usize]).into()
                };
            }
        }
        out
    }

    fn text(
        &self,
        loaded: usize,
        steps: usize,
        shared: usize,
        a: Option<&[(usize, u64)]>,
        b: &[(usize, u64)],
    ) -> String {
        let registers = self.registers();
        let metadata = if self.sparse { self.k / 64 } else { 0 };
        let mut text = format!(
            ".reg .b32 %d<{registers}>; .reg .b32 %r<{}>; .reg .b32 %t<12>; .reg .b64 %a<8>;\n\
             .reg .b64 %m<{}>; .reg .pred %p<4>;\n\
             ld.param.u64 %a0, [in]; ld.param.u64 %a1, [out]; ld.param.u64 %a3, [image];\n\
             mov.u32 %t0, %tid.x; mov.u32 %t1, smem; shl.b32 %t2, %t0, 4; add.u32 %t3, %t1, %t2;\n\
             mul.wide.u32 %a2, %t0, 4; add.s64 %a0, %a0, %a2; add.s64 %a1, %a1, %a2;\n\
             mul.wide.u32 %a2, %t0, 16; add.s64 %a3, %a3, %a2;\n",
            loaded + metadata + 1,
            2 * steps + 1,
        );
        // The image, 2 KiB at a time.
        text += &format!(
            "mov.u32 %t4, 0;\nCOPY:\nld.global.v4.b32 {{%t5,%t6,%t7,%t8}}, [%a3];\n\
             st.shared.v4.b32 [%t3], {{%t5,%t6,%t7,%t8}};\n\
             add.s64 %a3, %a3, 2048; add.u32 %t3, %t3, 2048; add.u32 %t4, %t4, 2048;\n\
             add.u32 %t5, %t4, %t2; setp.lt.u32 %p0, %t5, {shared};\n@%p0 bra COPY;\n"
        );
        for i in 0..loaded + metadata {
            let name =
                if i < registers { format!("%d{i}") } else { format!("%r{}", i - registers) };
            text += &format!("ld.global.b32 {name}, [%a0+{}];\n", 512 * i);
        }
        text += "cvt.u64.u32 %a4, %t1; shr.u64 %a4, %a4, 4;\n";
        for (i, (at, bits)) in a.unwrap_or(&[]).iter().chain(b).enumerate() {
            text += &format!("add.s64 %m{i}, %a4, {:#x};\n", bits | (*at as u64 / 16));
        }
        text += "fence.proxy.async.shared::cta;\nbar.sync 0;\nwgmma.fence.sync.aligned;\n";
        let (k, sum) = (self.steps().0, if self.f16_sums { "f16" } else { "f32" });
        let operand = if self.bf16 { "bf16" } else { "f16" };
        for step in 0..steps {
            let source = match a {
                Some(_) => format!("%m{step}"),
                None => vector("%r", 4 * step, 4),
            };
            let b_descriptor = format!("%m{}", step + a.map_or(0, |_| steps));
            let sparse = if self.sparse {
                let word = loaded - registers + step * k / 64;
                format!(" %r{word}, {},", step * k % 64 / 32)
            } else {
                String::new()
            };
            let scale_d = i32::from(self.adds || step > 0);
            let trans_a = match self.a {
                Some(layout) => format!(", {}", i32::from(layout.mn_major)),
                None => String::new(),
            };
            text += &format!(
                "wgmma.mma_async{}.sync.aligned.m64n{}k{k}.{sum}.{operand}.{operand} {}, {source}, \
                 {b_descriptor},{sparse} {scale_d}, {}, {}{trans_a}, {};\n",
                if self.sparse { ".sp" } else { "" },
                self.n,
                vector("%d", 0, registers),
                self.scales.0,
                self.scales.1,
                i32::from(self.b.mn_major),
            );
            if self.groups {
                text += "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 1;\n";
            }
        }
        if !self.groups {
            text += "wgmma.commit_group.sync.aligned;\n";
        }
        text += "wgmma.wait_group.sync.aligned 0;\n";
        for i in 0..registers {
            text += &format!("st.global.b32 [%a1+{}], %d{i};\n", 512 * i);
        }
        module(".param .u64 in, .param .u64 image, .param .u64 out", &text)
    }

    /// Runs it clean under several seeds and compares.
    pub fn check(&self) {
        let (case, expected) = self.case();
        let got = self.result(&words_of(&case.outputs()[0]));
        let wrong = got.values.iter().zip(&expected.values).filter(|(a, b)| a != b).count();
        assert_eq!(wrong, 0, "{}: {wrong} of {} wrong", self.name(), got.values.len());
    }
}
