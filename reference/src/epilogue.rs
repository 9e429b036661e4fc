//! The fused epilogue, in f32 to compute and in f64 to judge.
//!
//! ```text
//! z = alpha * product + beta * C + bias                                   [M, N]
//! y = scale[m] * act(z[m,n])                                              [M, N]
//! y = scale[m] * act(z[m,2j]) * z[m,2j+1]               where gated       [M, N/2]
//! ```

use layout::activation::{Activation, Math};
use layout::pair::PAIR_ROUNDINGS;
use layout::params::{EPILOGUE_ROUNDINGS, Output};

use crate::element::{Element, OutputOf, Scalar};
use crate::error::Error;
use crate::matrix::MatRef;

/// What is done to the product `X[M,K] . W[N,K]^T`; the default does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T: Element, O: OutputOf<T> = T> {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C. Where it is 0, C is not read, so an Inf or NaN in it does not matter.
    pub beta: f32,
    /// C, `[M, N]`, in the type of Y, or of X where Y is int8.
    pub c: Option<MatRef<'a, O::Addend>>,
    /// bias, `[N]`, in the type of X and W.
    pub bias: Option<&'a [T]>,
    /// What is applied to the sum.
    pub activation: Activation,
    /// Whether features 2j and 2j + 1 are a gate, which is activated, and the value it is multiplied by.
    pub gated: bool,
    /// Factors of the rows of Y, `[M]`, applied last.
    pub row_scale: Option<&'a [f32]>,
}

impl<T: Element, O: OutputOf<T>> Default for Epilogue<'_, T, O> {
    fn default() -> Self {
        Self {
            alpha: 1.0,
            beta: 0.0,
            c: None,
            bias: None,
            activation: Activation::None,
            gated: false,
            row_scale: None,
        }
    }
}

/// The elementary functions in f64.
struct Wide;

impl Math for Wide {
    type Real = f64;

    fn constant(x: f64) -> f64 {
        x
    }

    fn recip(x: f64) -> f64 {
        1.0 / x
    }

    fn exp(x: f64) -> f64 {
        libm::exp(x)
    }

    fn erf(x: f64) -> f64 {
        libm::erf(x)
    }
}

/// The elementary functions in f32.
struct Narrow;

impl Math for Narrow {
    type Real = f32;

    fn constant(x: f64) -> f32 {
        x as f32
    }

    fn recip(x: f32) -> f32 {
        1.0 / x
    }

    fn exp(x: f32) -> f32 {
        libm::expf(x)
    }

    fn erf(x: f32) -> f32 {
        libm::erff(x)
    }
}

impl<T: Element, O: OutputOf<T>> Epilogue<'_, T, O> {
    /// Columns of Y for `n` output features.
    pub fn columns(&self, n: usize) -> usize {
        if self.gated { n / 2 } else { n }
    }

    /// Checks C, bias and row scales against a product of `m` rows and `n` columns.
    pub(crate) fn check(&self, m: usize, n: usize) -> Result<(), Error> {
        let equal = |what, got, want| {
            if got == want { Ok(()) } else { Err(Error::Shape { what, got, want }) }
        };
        if self.gated && !n.is_multiple_of(2) {
            return Err(Error::GatedFeatures { n });
        }
        if let Some(c) = &self.c {
            equal("rows of C", c.rows(), m)?;
            equal("columns of C", c.cols(), n)?;
        }
        if let Some(row_scale) = self.row_scale {
            equal("length of row_scale", row_scale.len(), m)?;
        }
        self.bias.map_or(Ok(()), |bias| equal("length of bias", bias.len(), n))
    }

    /// f32 roundings this epilogue may add to a product, that of gate and value not counted: 0 where it
    /// leaves the product as it is.
    pub fn roundings(&self) -> u32 {
        let adds = self.beta != 0.0 && self.c.is_some() || self.bias.is_some();
        let changes = self.alpha != 1.0 || adds || self.activation != Activation::None;
        let scaled = self.row_scale.is_some() as u32;
        if changes { EPILOGUE_ROUNDINGS + scaled } else { scaled }
    }

    /// The error of z that evaluating the activation in the output's type may add, relative to S and besides: see
    /// `layout::pair`. The kernels may do so where the type has 16 bits and nothing else is applied.
    pub fn evaluation(&self) -> (f64, f64) {
        let smooth = !matches!(self.activation, Activation::None | Activation::Relu);
        let alone = self.c.is_none() && self.row_scale.is_none() && !self.gated;
        if smooth && alone && O::OUTPUT == Output::Input {
            (PAIR_ROUNDINGS as f64 * O::UNIT_ROUNDOFF, O::SMALLEST_SUBNORMAL)
        } else {
            (0.0, 0.0)
        }
    }

    /// The elements of C and bias that belong to `(row, col)` of the product, where they take part.
    #[inline(always)]
    fn addends(&self, row: usize, col: usize) -> (Option<O::Addend>, Option<T>) {
        let c = if self.beta == 0.0 { None } else { self.c.as_ref() };
        (c.map(|c| c.row(row)[col]), self.bias.map(|bias| bias[col]))
    }

    /// The sum z of element `(row, col)` of the product, in f32.
    #[inline(always)]
    pub(crate) fn narrow(&self, dot: f32, row: usize, col: usize) -> f32 {
        let (c, bias) = self.addends(row, col);
        let mut z = self.alpha * dot;
        if let Some(c) = c {
            z += self.beta * c.to_f32();
        }
        if let Some(bias) = bias {
            z += bias.to_f32();
        }
        z
    }

    /// The sum z of element `(row, col)` of the product, in f64.
    #[inline(always)]
    pub(crate) fn wide(&self, dot: f64, row: usize, col: usize) -> f64 {
        let (c, bias) = self.addends(row, col);
        let mut z = self.alpha as f64 * dot;
        if let Some(c) = c {
            z += self.beta as f64 * c.to_f64();
        }
        if let Some(bias) = bias {
            z += bias.to_f64();
        }
        z
    }

    /// An element of row `row` of Y from its sum in f32, or from those of gate and value.
    #[inline(always)]
    pub(crate) fn finish_narrow(&self, row: usize, z: f32, value: Option<f32>) -> f32 {
        let mut y = self.activation.apply::<Narrow>(z);
        if let Some(value) = value {
            y *= value;
        }
        self.row_scale.map_or(y, |scale| scale[row] * y)
    }

    /// Row `row` of Y from its sums in f64, in place: Y is what its first [`Self::columns`] become.
    pub(crate) fn finish_wide(&self, row: usize, z: &mut [f64]) {
        let scale = self.row_scale.map_or(1.0, |scale| scale[row] as f64);
        for col in 0..self.columns(z.len()) {
            z[col] = if self.gated {
                scale * (self.activation.apply::<Wide>(z[2 * col]) * z[2 * col + 1])
            } else {
                scale * self.activation.apply::<Wide>(z[col])
            };
        }
    }

    /// `|alpha| * sum + |beta * c| + |bias|` for element `(row, col)` of the product, `sum` being
    /// `sum |x||w|`.
    #[inline(always)]
    pub(crate) fn magnitude(&self, sum: f64, row: usize, col: usize) -> f64 {
        let (c, bias) = self.addends(row, col);
        (self.alpha as f64).abs() * sum
            + c.map_or(0.0, |c| (self.beta as f64 * c.to_f64()).abs())
            + bias.map_or(0.0, |bias| bias.to_f64().abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_term_takes_part() {
        let evaluation = |activation, gated| {
            Epilogue::<f16> { activation, gated, ..Epilogue::default() }.evaluation()
        };
        assert_eq!(evaluation(Activation::Silu, false), (2.0 / 2048.0, f16::SMALLEST_SUBNORMAL));
        assert_eq!(evaluation(Activation::Silu, true), (0.0, 0.0));
        assert_eq!(evaluation(Activation::Relu, false), (0.0, 0.0));
        let (c, bias) = ([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [10.0, 20.0, 30.0].map(f16::from_f32));
        let mut e = Epilogue {
            alpha: -2.0,
            beta: 0.5,
            c: Some(MatRef::contiguous(&c, 2, 3).unwrap()),
            bias: Some(&bias),
            ..Epilogue::<f16, f32>::default()
        };
        assert_eq!((e.narrow(7.0, 1, 2), e.wide(7.0, 1, 2)), (19.0, 19.0));
        assert_eq!(e.magnitude(7.0, 1, 2), 14.0 + 3.0 + 30.0);
        e.activation = Activation::Relu;
        assert_eq!((e.finish_narrow(0, -3.0, None), e.finish_narrow(0, 3.0, None)), (0.0, 3.0));
        assert_eq!(e.roundings(), EPILOGUE_ROUNDINGS);
        e.row_scale = Some(&[1.0, -0.25]);
        assert_eq!(e.finish_narrow(1, 3.0, None), -0.75);
        assert_eq!(e.roundings(), EPILOGUE_ROUNDINGS + 1);
        assert_eq!(Epilogue::<f16>::default().roundings(), 0);
        let mut z = [3.0, -5.0, -3.0, 7.0];
        e.finish_wide(1, &mut z);
        assert_eq!(z, [-0.75, 0.0, 0.0, -1.75]);
        e.gated = true;
        let mut z = [3.0, -5.0, -3.0, 7.0];
        e.finish_wide(1, &mut z);
        assert_eq!((z[0], z[1]), (3.75, 0.0));
        assert_eq!(e.finish_narrow(1, 3.0, Some(-5.0)), 3.75);
    }

    #[test]
    fn beta_zero_ignores_c() {
        let c = [f32::NAN];
        let c = Some(MatRef::contiguous(&c, 1, 1).unwrap());
        let e = Epilogue::<f16, f32> { c, ..Default::default() };
        assert_eq!((e.narrow(3.0, 0, 0), e.wide(3.0, 0, 0), e.roundings()), (3.0, 3.0, 0));
    }

    #[test]
    fn shapes_are_checked() {
        let bias = [f16::ONE; 3];
        let e = Epilogue::<f16> { bias: Some(&bias), ..Default::default() };
        assert!(e.check(5, 3).is_ok());
        let error = Error::Shape { what: "length of bias", got: 3, want: 4 };
        assert_eq!(e.check(5, 4).unwrap_err(), error);
        let c = [0.0f32; 6];
        let c = Some(MatRef::contiguous(&c, 2, 3).unwrap());
        let e = Epilogue::<f16, f32> { c, ..Default::default() };
        assert_eq!(e.check(3, 3).unwrap_err(), Error::Shape { what: "rows of C", got: 2, want: 3 });
        assert!(e.check(2, 2).is_err() && e.check(2, 3).is_ok());
        let e = Epilogue::<f16, i8> { row_scale: Some(&[1.0; 3]), ..Default::default() };
        let error = Error::Shape { what: "length of row_scale", got: 3, want: 2 };
        assert_eq!(e.check(2, 5).unwrap_err(), error);
        let e = Epilogue::<f16> { gated: true, ..Default::default() };
        assert_eq!(e.check(2, 5).unwrap_err(), Error::GatedFeatures { n: 5 });
        assert_eq!((e.check(2, 6), e.columns(6)), (Ok(()), 3));
    }
}
