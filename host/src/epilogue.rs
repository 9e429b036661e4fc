//! What is fused behind the product.

use crate::error::{Result, invalid};
use crate::matrix::{Matrix, OutputOf};
use layout::activation::Activation;
use reference::Element;
use std::fmt;
use std::str::FromStr;

/// `act(alpha * product + beta * C + bias)`; the default is the product alone.
///
/// Where `gated`, features 2j and 2j + 1 are a gate and its value, and Y is `[M, N/2]`:
/// `y[j] = act(z[2j]) * z[2j+1]` (SwiGLU is this with SiLU). [`interleave`] makes such a W of two.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T: Element, O: OutputOf<T> = T> {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C. Where it is 0, C is not read, so an Inf or NaN in it does not matter.
    pub beta: f32,
    /// C, `[M, N]`, in the type of Y, or of X where Y is int8. It may be Y itself where they have the same
    /// elements.
    pub c: Option<&'a Matrix<O::Addend>>,
    /// bias, `[1, N]`, in the type of X and W.
    pub bias: Option<&'a Matrix<T>>,
    /// What is applied to the sum: in f32, or, by Hopper's kernels where Y has 16 bits, in the type of Y (see
    /// `layout::pair` for the error).
    pub activation: Activation,
    /// Whether features are gates and values in turn.
    pub gated: bool,
    /// `[1, M]`: factors of the rows of Y before they are rounded to int8. Only for int8, whose elements are
    /// the nearest integers, ties to even, saturated to -128..=127, and 0 for NaN.
    pub row_scale: Option<&'a Matrix<f32>>,
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

impl<T: Element, O: OutputOf<T>> Epilogue<'_, T, O> {
    /// Columns of Y for `n` output features.
    pub fn columns(&self, n: usize) -> usize {
        if self.gated { n / 2 } else { n }
    }
}

/// W (or bias) of a gated product: `gates` and `values`, both of rows of `k` elements, row by row in turn.
///
/// # Errors
/// Lengths that differ, or that are no multiple of `k`.
pub fn interleave<T: Copy>(gates: &[T], values: &[T], k: usize) -> Result<Vec<T>> {
    if values.len() != gates.len() {
        return Err(invalid("length of the values", values.len(), gates.len().to_string()));
    }
    if k == 0 || !gates.len().is_multiple_of(k) {
        return Err(invalid(
            "length of the gates",
            gates.len(),
            format!("a multiple of {k}, over 0"),
        ));
    }
    let pairs = gates.chunks(k).zip(values.chunks(k));
    Ok(pairs.flat_map(|(gate, value)| [gate, value]).flatten().copied().collect())
}

/// A fused form by name: `none`, `relu`, `gelu`, `gelu-tanh`, `silu`, `bias`, `bias-relu`, ..., each also with
/// `residual` (`bias-residual-relu`) or `gated` (`bias-gated-silu`) before the activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fused {
    /// Whether bias is added.
    pub bias: bool,
    /// Whether C is added.
    pub residual: bool,
    /// Whether features are gates and values in turn.
    pub gated: bool,
    /// What is applied to the sum.
    pub activation: Activation,
}

impl Fused {
    /// Every form; of `residual` and `gated` one at most.
    pub fn all() -> impl Iterator<Item = Self> {
        let forms = [(false, false), (true, false), (false, true)];
        forms.into_iter().flat_map(|(residual, gated)| {
            [false, true].into_iter().flat_map(move |bias| {
                Activation::ALL.map(|activation| Self { bias, residual, gated, activation })
            })
        })
    }
}

const fn name(activation: Activation) -> &'static str {
    match activation {
        Activation::None => "none",
        Activation::Relu => "relu",
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu-tanh",
        Activation::Silu => "silu",
    }
}

impl fmt::Display for Fused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.bias.then_some("bias"),
            self.residual.then_some("residual"),
            self.gated.then_some("gated"),
            (self.activation != Activation::None).then_some(name(self.activation)),
        ];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        let text = parts.join("-");
        f.pad(if text.is_empty() { name(Activation::None) } else { &text })
    }
}

impl FromStr for Fused {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::all().find(|fused| fused.to_string() == text).ok_or_else(|| {
            let names: Vec<String> = Self::all().map(|fused| fused.to_string()).collect();
            format!("`{text}` is no epilogue; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for fused in Fused::all() {
            assert_eq!(fused.to_string().parse(), Ok(fused));
        }
        assert_eq!(Fused::all().count(), 30);
        let bias_gelu =
            Fused { bias: true, activation: Activation::GeluTanh, ..Default::default() };
        assert_eq!("bias-gelu-tanh".parse(), Ok(bias_gelu));
        let swiglu = Fused { gated: true, activation: Activation::Silu, ..Default::default() };
        assert_eq!("gated-silu".parse(), Ok(swiglu));
        let residual = Fused { bias: true, residual: true, ..Default::default() };
        assert_eq!("bias-residual".parse(), Ok(residual));
        let plain: Vec<String> = Fused::all().take(10).map(|fused| fused.to_string()).collect();
        let old = "none relu gelu gelu-tanh silu bias bias-relu bias-gelu bias-gelu-tanh bias-silu";
        assert_eq!(plain.join(" "), old);
        assert!("gelu-bias".parse::<Fused>().unwrap_err().contains("`gelu-bias`"));
    }

    #[test]
    fn gates_and_values_alternate() {
        let w = interleave(&[1, 2, 3, 4], &[5, 6, 7, 8], 2).unwrap();
        assert_eq!(w, [1, 2, 5, 6, 3, 4, 7, 8]);
        let text = interleave(&[1, 2, 3], &[4, 5, 6], 2).unwrap_err().to_string();
        assert_eq!(
            text,
            "invalid argument: length of the gates is 3, must be a multiple of 2, over 0"
        );
        let text = interleave(&[1, 2], &[4], 2).unwrap_err().to_string();
        assert_eq!(text, "invalid argument: length of the values is 1, must be 2");
    }
}
