//! The fused epilogue `act(alpha * acc + beta * C + bias)`, in f32 to compute and in f64 to judge.

use layout::activation::{Activation, Math};
use layout::params::EPILOGUE_ROUNDINGS;

use crate::element::{Element, Scalar};
use crate::error::Error;
use crate::matrix::MatRef;

/// What is done to the product `X[M,K] . W[N,K]^T`; the default does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T, O = T> {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C. Where it is 0, C is not read, so an Inf or NaN in it does not matter.
    pub beta: f32,
    /// C, `[M, N]`, in the type of Y.
    pub c: Option<MatRef<'a, O>>,
    /// bias, `[N]`, in the type of X and W.
    pub bias: Option<&'a [T]>,
    /// What is applied last.
    pub activation: Activation,
}

impl<T, O> Default for Epilogue<'_, T, O> {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 0.0, c: None, bias: None, activation: Activation::None }
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

impl<T: Element, O: Scalar> Epilogue<'_, T, O> {
    /// Checks C and bias against a Y of `m` rows and `n` columns.
    pub(crate) fn check(&self, m: usize, n: usize) -> Result<(), Error> {
        let equal = |what, got, want| {
            if got == want { Ok(()) } else { Err(Error::Shape { what, got, want }) }
        };
        if let Some(c) = &self.c {
            equal("rows of C", c.rows(), m)?;
            equal("columns of C", c.cols(), n)?;
        }
        self.bias.map_or(Ok(()), |bias| equal("length of bias", bias.len(), n))
    }

    /// f32 roundings this epilogue may add to a product: 0 where it leaves the product as it is.
    pub fn roundings(&self) -> u32 {
        let adds = self.beta != 0.0 && self.c.is_some() || self.bias.is_some();
        let changes = self.alpha != 1.0 || adds || self.activation != Activation::None;
        if changes { EPILOGUE_ROUNDINGS } else { 0 }
    }

    /// beta and the elements of C and bias that belong to `(row, col)`, where they take part.
    #[inline(always)]
    fn addends(&self, row: usize, col: usize) -> (Option<O>, Option<T>) {
        let c = if self.beta == 0.0 { None } else { self.c.as_ref() };
        (c.map(|c| c.row(row)[col]), self.bias.map(|bias| bias[col]))
    }

    /// Element `(row, col)` of Y from its dot product, in f32.
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
        self.activation.apply::<Narrow>(z)
    }

    /// Element `(row, col)` of Y from its dot product, in f64.
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
        self.activation.apply::<Wide>(z)
    }

    /// `|alpha| * sum + |beta * c| + |bias|` for element `(row, col)`, `sum` being `sum |x||w|`.
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
        let (c, bias) = ([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [10.0, 20.0, 30.0].map(f16::from_f32));
        let mut e = Epilogue {
            alpha: -2.0,
            beta: 0.5,
            c: Some(MatRef::contiguous(&c, 2, 3).unwrap()),
            bias: Some(&bias),
            activation: Activation::None,
        };
        assert_eq!((e.narrow(7.0, 1, 2), e.wide(7.0, 1, 2)), (19.0, 19.0));
        assert_eq!(e.magnitude(7.0, 1, 2), 14.0 + 3.0 + 30.0);
        e.activation = Activation::Relu;
        assert_eq!((e.narrow(7.0, 0, 0), e.wide(7.0, 0, 0)), (0.0, 0.0));
        assert_eq!(e.roundings(), EPILOGUE_ROUNDINGS);
        assert_eq!(Epilogue::<f16>::default().roundings(), 0);
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
    }
}
