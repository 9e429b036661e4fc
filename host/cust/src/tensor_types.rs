//! The choices in a tensor map, in this crate's words and the driver's.

use cudarc::driver::sys;

use crate::memory::DeviceCopy;

/// Element types a tensor map knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TensorDataType {
    U8,
    U16,
    U32,
    I32,
    U64,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

impl TensorDataType {
    /// Bytes of an element.
    pub fn size_in_bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    pub(crate) fn raw(self) -> sys::CUtensorMapDataType {
        use sys::CUtensorMapDataType_enum as Raw;
        match self {
            Self::U8 => Raw::CU_TENSOR_MAP_DATA_TYPE_UINT8,
            Self::U16 => Raw::CU_TENSOR_MAP_DATA_TYPE_UINT16,
            Self::U32 => Raw::CU_TENSOR_MAP_DATA_TYPE_UINT32,
            Self::I32 => Raw::CU_TENSOR_MAP_DATA_TYPE_INT32,
            Self::U64 => Raw::CU_TENSOR_MAP_DATA_TYPE_UINT64,
            Self::I64 => Raw::CU_TENSOR_MAP_DATA_TYPE_INT64,
            Self::F16 => Raw::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            Self::Bf16 => Raw::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            Self::F32 => Raw::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            Self::F64 => Raw::CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
        }
    }
}

/// Rust types with a tensor map type.
pub trait TensorElement: DeviceCopy {
    /// That type.
    const DATA_TYPE: TensorDataType;
}

macro_rules! elements {
    ($($rust:ty => $variant:ident,)+) => {
        $(impl TensorElement for $rust {
            const DATA_TYPE: TensorDataType = TensorDataType::$variant;
        })+
    };
}
elements! {
    u8 => U8, u16 => U16, u32 => U32, i32 => I32, u64 => U64, i64 => I64,
    half::f16 => F16, half::bf16 => Bf16, f32 => F32, f64 => F64,
}

/// How 16-byte pieces are permuted in shared memory, against bank conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Swizzle {
    /// As in global memory.
    #[default]
    None,
    /// Within 32 bytes; the box is at most that wide.
    B32,
    /// Within 64 bytes; the box is at most that wide.
    B64,
    /// Within 128 bytes; the box is at most that wide.
    B128,
}

impl Swizzle {
    /// The widest box in bytes, if swizzling limits it.
    pub fn span(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::B32 => Some(32),
            Self::B64 => Some(64),
            Self::B128 => Some(128),
        }
    }

    pub(crate) fn raw(self) -> sys::CUtensorMapSwizzle {
        use sys::CUtensorMapSwizzle_enum as Raw;
        match self {
            Self::None => Raw::CU_TENSOR_MAP_SWIZZLE_NONE,
            Self::B32 => Raw::CU_TENSOR_MAP_SWIZZLE_32B,
            Self::B64 => Raw::CU_TENSOR_MAP_SWIZZLE_64B,
            Self::B128 => Raw::CU_TENSOR_MAP_SWIZZLE_128B,
        }
    }
}

/// How many bytes around a read L2 fetches from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub enum L2Promotion {
    #[default]
    None,
    B64,
    B128,
    B256,
}

impl L2Promotion {
    pub(crate) fn raw(self) -> sys::CUtensorMapL2promotion {
        use sys::CUtensorMapL2promotion_enum as Raw;
        match self {
            Self::None => Raw::CU_TENSOR_MAP_L2_PROMOTION_NONE,
            Self::B64 => Raw::CU_TENSOR_MAP_L2_PROMOTION_L2_64B,
            Self::B128 => Raw::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            Self::B256 => Raw::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        }
    }
}

/// What a load finds outside the tensor. Stores there do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OobFill {
    /// Zeros.
    #[default]
    Zero,
    /// A special NaN that multiply-adds take for zero; floating-point types only.
    NanRequestZeroFma,
}

impl OobFill {
    pub(crate) fn raw(self) -> sys::CUtensorMapFloatOOBfill {
        use sys::CUtensorMapFloatOOBfill_enum as Raw;
        match self {
            Self::Zero => Raw::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            Self::NanRequestZeroFma => Raw::CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA,
        }
    }
}
