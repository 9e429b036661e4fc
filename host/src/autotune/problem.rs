//! [`Problem`]: what a record of the tuner is for.

use crate::device::DeviceInfo;
use crate::epilogue::{Epilogue, Fused};
use crate::gemm::{Weight, alignment, stores};
use crate::matrix::{Matrix, OutputOf, Value};
use crate::ptx;
use layout::instance::Dtype;
use layout::params::{ALIGNED_EPILOGUE, ALIGNED_STORE, ALIGNED_W, ALIGNED_X, Output};
use reference::Element;

/// A product, without its operands: all that the choice of a kernel may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Whether W is 2:4 sparse.
    pub sparse: bool,
    /// Type of X, W and bias.
    pub dtype: Dtype,
    /// Tokens: rows of X and Y.
    pub m: usize,
    /// Output features: rows of W, columns of Y.
    pub n: usize,
    /// Input features: columns of X and W.
    pub k: usize,
    /// What is fused behind the product.
    pub fused: Fused,
    /// Type of Y, and of C but for int8.
    pub output: Output,
    /// Which operands kernels may touch several elements at a time: the `ALIGNED_*` bits of
    /// [`layout::params`].
    pub aligned: u32,
}

impl Problem {
    /// The product alone, of operands without gaps, Y in the type of X.
    pub fn new(sparse: bool, dtype: Dtype, m: usize, n: usize, k: usize) -> Self {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let rows_of_k = k.is_multiple_of(8);
        let aligned = flag(rows_of_k, ALIGNED_X) | flag(sparse || rows_of_k, ALIGNED_W);
        let (fused, output) = (Fused::default(), Output::Input);
        Self { sparse, dtype, m, n, k, fused, output, aligned }.with_epilogue(fused, output)
    }

    /// The same product with `fused` behind it and a Y of type `output`, of operands without gaps.
    pub fn with_epilogue(self, fused: Fused, output: Output) -> Self {
        let columns = if fused.gated { self.n / 2 } else { self.n };
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let whole = stores(output, fused.gated, fused.residual) && columns.is_multiple_of(8);
        let y = flag(columns.is_multiple_of(4), ALIGNED_EPILOGUE) | flag(whole, ALIGNED_STORE);
        let aligned = self.aligned & !(ALIGNED_EPILOGUE | ALIGNED_STORE) | y;
        Self { fused, output, aligned, ..self }
    }

    /// That of these operands.
    pub fn of<T: Element + Value, O: OutputOf<T>>(
        x: &Matrix<T>,
        w: &Weight<'_, T>,
        epilogue: &Epilogue<'_, T, O>,
        y: &Matrix<O>,
    ) -> Self {
        Self {
            sparse: w.is_sparse(),
            dtype: T::DTYPE,
            m: x.rows(),
            n: w.n(),
            k: w.k(),
            fused: Fused {
                bias: epilogue.bias.is_some(),
                residual: epilogue.c.is_some() && epilogue.beta != 0.0,
                gated: epilogue.gated,
                activation: epilogue.activation,
            },
            output: O::OUTPUT,
            aligned: alignment(x, w, epilogue, y),
        }
    }

    /// Whether there is something to compute.
    pub(super) fn is_empty(&self) -> bool {
        self.m == 0 || self.n == 0 || self.k == 0
    }

    /// What a record of this problem on `device` is stored under:
    ///
    /// ```text
    /// op=sparse;m=4096;n=14336;k=4096;dtype=f16;epilogue=bias-silu;y=f16;layout=xwys;gpu=NVIDIA H200;sm=90;driver=13.0 (580.159.04);ptx=<64 digits>
    /// ```
    ///
    /// One line of `name=value`, separated by `;`, always all of them and in this order:
    ///
    /// | name | value |
    /// |---|---|
    /// | `op` | `dense` or `sparse` |
    /// | `m`, `n`, `k` | extents, decimal |
    /// | `dtype` | type of X, W and bias: `f16` or `bf16` |
    /// | `epilogue` | a name of [`Fused`] |
    /// | `y` | type of Y: `f16`, `bf16`, `f32` or `int8` |
    /// | `layout` | which of `x`, `w` and `y` (with C and bias) kernels may touch several elements at a time, `s` where a tensor map can store Y, or `-` |
    /// | `gpu`, `sm`, `driver` | [`DeviceInfo`], a `;` in it replaced by `,`; `sm` without a dot |
    /// | `ptx` | [`ptx::BLAKE3`] |
    ///
    /// A record is never used where any of them differs, such as on another GPU, driver or PTX.
    pub fn key(&self, device: &DeviceInfo) -> String {
        let dtype = match self.dtype {
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        };
        let output = match self.output {
            Output::Input => dtype,
            Output::F32 => "f32",
            Output::Int8 => "int8",
        };
        let bits =
            [(ALIGNED_X, 'x'), (ALIGNED_W, 'w'), (ALIGNED_EPILOGUE, 'y'), (ALIGNED_STORE, 's')];
        let aligned = bits.into_iter().filter(|(bit, _)| self.aligned & bit != 0);
        let layout = aligned.map(|(_, name)| name).collect::<String>();
        let plain = |text: &str| text.replace(';', ",");
        format!(
            "op={};m={};n={};k={};dtype={dtype};epilogue={};y={output};layout={};\
             gpu={};sm={}{};driver={};ptx={}",
            if self.sparse { "sparse" } else { "dense" },
            self.m,
            self.n,
            self.k,
            self.fused,
            if layout.is_empty() { "-" } else { &layout },
            plain(&device.name),
            device.sm.0,
            device.sm.1,
            plain(&device.driver),
            ptx::BLAKE3,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::activation::Activation;

    fn device() -> DeviceInfo {
        DeviceInfo {
            name: "NVIDIA H200".to_owned(),
            sm: (9, 0),
            multiprocessors: 132,
            l2_bytes: 0,
            shared_bytes: 0,
            memory_bytes: 0,
            driver: "13.0 (580.159.04)".to_owned(),
        }
    }

    #[test]
    fn the_key_names_all_that_matters() {
        let plain = Problem::new(true, Dtype::F16, 4096, 14336, 4096);
        let want = "op=sparse;m=4096;n=14336;k=4096;dtype=f16;epilogue=none;y=f16;layout=xwys;\
                    gpu=NVIDIA H200;sm=90;driver=13.0 (580.159.04);ptx=";
        assert_eq!(plain.key(&device()), format!("{want}{}", ptx::BLAKE3));

        let odd = Problem {
            fused: Fused {
                bias: true,
                residual: true,
                gated: false,
                activation: Activation::GeluTanh,
            },
            output: Output::F32,
            ..Problem::new(false, Dtype::Bf16, 1, 33, 7)
        };
        let name = "a; b".to_owned();
        let want = "op=dense;m=1;n=33;k=7;dtype=bf16;epilogue=bias-residual-gelu-tanh;y=f32;layout=-;\
                    gpu=a, b;sm=90;driver=13.0 (580.159.04);ptx=";
        assert_eq!(odd.key(&DeviceInfo { name, ..device() }), format!("{want}{}", ptx::BLAKE3));
    }

    #[test]
    fn a_gated_y_has_half_the_columns_to_align() {
        let problem = Problem::new(false, Dtype::F16, 8, 12, 8);
        let aligned = |fused, output| problem.with_epilogue(fused, output).aligned;
        let all = ALIGNED_X | ALIGNED_W | ALIGNED_EPILOGUE;
        let gated = Fused { gated: true, ..Default::default() };
        assert_eq!(aligned(Fused::default(), Output::Int8), all);
        assert_eq!(aligned(Fused::default(), Output::Input), all);
        assert_eq!(Problem { n: 16, ..problem }.with_epilogue(gated, Output::F32).aligned, all);
        assert_eq!(Problem::new(false, Dtype::F16, 8, 16, 8).aligned, all | ALIGNED_STORE);
        assert_eq!(aligned(gated, Output::Input), ALIGNED_X | ALIGNED_W);
        assert_eq!(problem.with_epilogue(gated, Output::F32).output, Output::F32);
    }

    #[test]
    fn what_differs_has_another_key() {
        let problem = Problem::new(false, Dtype::F16, 64, 64, 64);
        let mut keys = vec![
            problem.key(&device()),
            problem.key(&DeviceInfo { name: "NVIDIA A100".to_owned(), ..device() }),
            problem.key(&DeviceInfo { sm: (8, 0), ..device() }),
            problem.key(&DeviceInfo { driver: "13.0 (580.159.05)".to_owned(), ..device() }),
        ];
        let others = [
            Problem { sparse: true, ..problem },
            Problem { dtype: Dtype::Bf16, ..problem },
            Problem { m: 65, ..problem },
            Problem { n: 65, ..problem },
            Problem { k: 65, ..problem },
            Problem { fused: Fused { bias: true, ..Default::default() }, ..problem },
            Problem { fused: Fused { residual: true, ..Default::default() }, ..problem },
            Problem { fused: Fused { gated: true, ..Default::default() }, ..problem },
            Problem { output: Output::F32, ..problem },
            Problem { output: Output::Int8, ..problem },
            Problem { aligned: ALIGNED_X, ..problem },
        ];
        keys.extend(others.map(|other| other.key(&device())));
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
