//! PTX fundamental types and their Rust counterparts (PTX ISA, "State spaces, types and variables").

use half::{bf16, f16};

/// A type suffix of an instruction or of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
}

impl Type {
    /// The type a suffix names, without its dot.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "pred" => Self::Pred,
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "b128" => Self::B128,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            "f64" => Self::F64,
            _ => return None,
        })
    }

    /// Width in bits; 1 for predicates.
    pub fn bits(self) -> u32 {
        match self {
            Self::Pred => 1,
            Self::B8 | Self::U8 | Self::S8 => 8,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::Bf16 => 16,
            Self::B32 | Self::U32 | Self::S32 | Self::F32 | Self::Tf32 => 32,
            Self::F16x2 | Self::Bf16x2 => 32,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 64,
            Self::B128 => 128,
        }
    }

    /// Width in bytes; 1 for predicates.
    pub fn bytes(self) -> usize {
        (self.bits() as usize).div_ceil(8)
    }

    /// Whether it is one of `.s8` to `.s64`.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    /// Whether it is a floating-point type, packed ones included.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::F16
                | Self::F16x2
                | Self::Bf16
                | Self::Bf16x2
                | Self::Tf32
                | Self::F32
                | Self::F64
        )
    }
}

/// A Rust type held in the low bits of a register, zero-extended.
pub trait Value: Copy {
    /// Takes the value from a register's low bits.
    fn from_bits(bits: u64) -> Self;
    /// The register contents that hold the value.
    fn into_bits(self) -> u64;
}

macro_rules! integer_value {
    ($($signed:ty, $unsigned:ty);*) => {$(
        impl Value for $unsigned {
            #[inline(always)]
            fn from_bits(bits: u64) -> Self { bits as Self }
            #[inline(always)]
            fn into_bits(self) -> u64 { self as u64 }
        }
        impl Value for $signed {
            #[inline(always)]
            fn from_bits(bits: u64) -> Self { bits as Self }
            #[inline(always)]
            fn into_bits(self) -> u64 { self as $unsigned as u64 }
        }
    )*};
}
integer_value!(i8, u8; i16, u16; i32, u32; i64, u64);

macro_rules! float_value {
    ($($float:ty, $bits:ty);*) => {$(
        impl Value for $float {
            #[inline(always)]
            fn from_bits(bits: u64) -> Self { <$float>::from_bits(bits as $bits) }
            #[inline(always)]
            fn into_bits(self) -> u64 { self.to_bits() as u64 }
        }
    )*};
}
float_value!(f32, u32; f64, u64; f16, u16; bf16, u16);
