//! The shapes that are measured, by name.

use clap::ValueEnum;
use sparseflow::gemm::MAX_EXTENT;
use std::fmt;
use std::str::FromStr;

/// M tokens, N output features, K input features; written `MxNxK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows of X and Y.
    pub m: usize,
    /// Rows of W, columns of Y.
    pub n: usize,
    /// Columns of X and W.
    pub k: usize,
}

/// A list of shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Small and odd shapes: seconds, even on a CPU
    Quick,
    /// Square products, and 4096x4096x11008
    Cubes,
    /// Layers of Llama models of 8 and 70 billion parameters, for 16 to 4096 tokens
    Llama,
}

impl Suite {
    /// What it is called on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Its shapes.
    pub fn shapes(self) -> Vec<Shape> {
        match self {
            Self::Quick => QUICK.map(|(m, n, k)| Shape { m, n, k }).to_vec(),
            Self::Cubes => CUBES.map(|(m, n, k)| Shape { m, n, k }).to_vec(),
            Self::Llama => llama(),
        }
    }
}

/// Each side of a tile edge, K that is no multiple of 2, 4, 8 or a stage, single rows and columns.
const QUICK: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (3, 5, 7),
    (16, 16, 64),
    (17, 33, 40),
    (64, 64, 64),
    (1, 4096, 1024),
    (129, 257, 136),
    (127, 255, 333),
    (64, 1000, 1024),
    (128, 256, 2048),
    (256, 512, 1024),
    (512, 512, 512),
];

const CUBES: [(usize, usize, usize); 6] = [
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (3072, 3072, 3072),
    (4096, 4096, 4096),
    (8192, 8192, 8192),
    (4096, 4096, 11008),
];

/// Up and down projections: of the 8B model for a growing number of tokens, of the 70B model for 4096.
fn llama() -> Vec<Shape> {
    let up = [16, 64, 128, 256, 512, 1024, 2048, 4096].map(|m| (m, 14336, 4096));
    let down = [256, 512, 1024, 2048, 4096].map(|m| (m, 4096, 14336));
    let large = [(4096, 28672, 8192), (4096, 8192, 28672)];
    let all = up.into_iter().chain(down).chain(large);
    all.map(|(m, n, k)| Shape { m, n, k }).collect()
}

impl Shape {
    /// Floating-point operations of the dense product.
    pub fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.m, self.n, self.k)
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('x').collect();
        let [m, n, k] = parts[..] else {
            return Err("a shape is MxNxK, such as 4096x14336x4096".to_owned());
        };
        let extent = |name: &str, digits: &str| match digits.parse() {
            Ok(extent) if (1..=MAX_EXTENT).contains(&extent) => Ok(extent),
            _ => Err(format!("{name} is `{digits}`, must be a number from 1 to {MAX_EXTENT}")),
        };
        Ok(Self { m: extent("M", m)?, n: extent("N", n)?, k: extent("K", k)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_round_trip() {
        for suite in Suite::value_variants() {
            for shape in suite.shapes() {
                assert_eq!(shape.to_string().parse(), Ok(shape));
            }
        }
    }

    #[test]
    fn a_bad_shape_names_what_is_wrong() {
        let error = |text: &str| text.parse::<Shape>().unwrap_err();
        assert!(error("17x33").contains("MxNxK"));
        assert!(error("1x2x3x4").contains("MxNxK"));
        assert!(error("").contains("MxNxK"));
        assert_eq!(error("0x2x3"), "M is `0`, must be a number from 1 to 2147483584");
        assert!(error("1x-2x3").starts_with("N is `-2`"));
        assert!(error("1x2x").starts_with("K is ``"));
        assert!(error("1x2x2147483585").starts_with("K is `2147483585`"));
        assert!(error("1x2x99999999999999999999").starts_with("K is `9999"));
    }

    #[test]
    fn suites_hold_what_the_anchors_were_measured_on() {
        let has = |suite: Suite, text: &str| {
            assert!(suite.shapes().contains(&text.parse().unwrap()), "{text}");
        };
        has(Suite::Cubes, "8192x8192x8192");
        has(Suite::Llama, "16x14336x4096");
        has(Suite::Llama, "4096x8192x28672");
        has(Suite::Quick, "17x33x40");
        assert_eq!(Suite::Llama.shapes().len(), 15);
        let quick: f64 = Suite::Quick.shapes().iter().map(Shape::flops).sum();
        assert!(quick < 2e9, "quick must stay quick");
    }
}
