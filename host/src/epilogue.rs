//! What is fused behind the product.

use crate::matrix::Matrix;
use layout::activation::Activation;
use std::fmt;
use std::str::FromStr;

/// `act(alpha * product + beta * C + bias)`; the default is the product alone.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T, O = T> {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C. Where it is 0, C is not read, so an Inf or NaN in it does not matter.
    pub beta: f32,
    /// C, `[M, N]`, in the type of Y. It may be Y itself.
    pub c: Option<&'a Matrix<O>>,
    /// bias, `[1, N]`, in the type of X and W.
    pub bias: Option<&'a Matrix<T>>,
    /// What is applied last.
    pub activation: Activation,
}

impl<T, O> Default for Epilogue<'_, T, O> {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 0.0, c: None, bias: None, activation: Activation::None }
    }
}

/// A fused form by name: `none`, `relu`, `gelu`, `gelu-tanh`, `silu`, `bias`, `bias-relu`, ...
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fused {
    /// Whether bias is added.
    pub bias: bool,
    /// What is applied last.
    pub activation: Activation,
}

impl Fused {
    /// Every form.
    pub fn all() -> impl Iterator<Item = Self> {
        let each = |bias| Activation::ALL.map(|activation| Self { bias, activation });
        [false, true].into_iter().flat_map(each)
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
        match (self.bias, self.activation) {
            (false, activation) => f.pad(name(activation)),
            (true, Activation::None) => f.pad("bias"),
            (true, activation) => f.pad(&format!("bias-{}", name(activation))),
        }
    }
}

impl FromStr for Fused {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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
        assert_eq!(Fused::all().count(), 10);
        let bias_gelu = Fused { bias: true, activation: Activation::GeluTanh };
        assert_eq!("bias-gelu-tanh".parse(), Ok(bias_gelu));
        assert!("gelu-bias".parse::<Fused>().unwrap_err().contains("`gelu-bias`"));
    }
}
