//! Tensor maps: the 128-byte descriptions of a tensor that TMA (bulk tensor copy) instructions
//! take, encoded by the driver for devices from compute capability 9.0.
//!
//! Dimension 0 is the innermost, contiguous one. The limits are those documented for
//! `cuTensorMapEncodeTiled`, checked here because the driver only says "invalid value".

use cudarc::driver::sys;

use crate::driver::call;
use crate::error::{CudaResult, invalid};
use crate::memory::{DeviceCopy, DevicePointer};
pub use crate::tensor_types::{L2Promotion, OobFill, Swizzle, TensorDataType, TensorElement};

const MAX_RANK: usize = 5;
const MAX_BOX: u32 = 256;
const MAX_STRIDE: u64 = 1 << 40;
const MAX_DIM: u64 = 1 << 32;
const ALIGN: u64 = 16;

/// An encoded tensor map: opaque to all but the driver and the device.
///
/// It holds the tensor's address and keeps nothing alive. Put it in device memory with
/// [`DeviceBuffer::from_slice`](crate::memory::DeviceBuffer::from_slice) and give the kernel the
/// pointer; CUDA wants a `fence.proxy.tensormap` acquire in the kernel before its first use from
/// global memory.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorMap {
    opaque: [u64; 16],
}

const _: () = assert!(size_of::<TensorMap>() == 128 && align_of::<TensorMap>() == 64);

// SAFETY: 128 opaque bytes, valid for every bit pattern; the address in it is a device address.
unsafe impl DeviceCopy for TensorMap {}

impl TensorMap {
    /// The 128 bytes, as 64-bit words in the device's order.
    pub fn as_words(&self) -> &[u64; 16] {
        &self.opaque
    }
}

/// Describes a tensor and the box that one copy moves.
///
/// ```no_run
/// # use cust::prelude::*; use cust::tensor_map::*;
/// # fn f(x: &DeviceBuffer<half::f16>, m: u64, k: u64) -> CudaResult<TensorMap> {
/// // X[m, k], K contiguous, in boxes of 128 rows of 64 elements.
/// TensorMapBuilder::new(x.as_device_ptr())
///     .dims(&[k, m])
///     .strides(&[k * 2])
///     .box_dims(&[64, 128])
///     .swizzle(Swizzle::B128)
///     .build()
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMapBuilder {
    address: u64,
    data_type: TensorDataType,
    dims: Vec<u64>,
    strides: Vec<u64>,
    box_dims: Vec<u32>,
    swizzle: Swizzle,
    l2_promotion: L2Promotion,
    oob_fill: OobFill,
}

impl TensorMapBuilder {
    /// A tensor of this pointer's element type at this 16-byte aligned address.
    pub fn new<T: TensorElement>(address: DevicePointer<T>) -> Self {
        Self {
            address: address.as_raw(),
            data_type: T::DATA_TYPE,
            dims: Vec::new(),
            strides: Vec::new(),
            box_dims: Vec::new(),
            swizzle: Swizzle::default(),
            l2_promotion: L2Promotion::default(),
            oob_fill: OobFill::default(),
        }
    }

    /// Extents in elements, innermost first: 1 to 5 of them, each 1 to 2^32.
    #[must_use]
    pub fn dims(mut self, dims: &[u64]) -> Self {
        self.dims = dims.to_vec();
        self
    }

    /// Strides in bytes of all dimensions but the innermost (one fewer than extents), multiples
    /// of 16 below 2^40.
    #[must_use]
    pub fn strides(mut self, strides: &[u64]) -> Self {
        self.strides = strides.to_vec();
        self
    }

    /// Extents of the box in elements, innermost first, each 1 to 256; the innermost a multiple
    /// of 16 bytes and no wider than the swizzle.
    #[must_use]
    pub fn box_dims(mut self, box_dims: &[u32]) -> Self {
        self.box_dims = box_dims.to_vec();
        self
    }

    /// Layout in shared memory; none by default.
    #[must_use]
    pub fn swizzle(mut self, swizzle: Swizzle) -> Self {
        self.swizzle = swizzle;
        self
    }

    /// L2 fetch size; none by default.
    #[must_use]
    pub fn l2_promotion(mut self, l2_promotion: L2Promotion) -> Self {
        self.l2_promotion = l2_promotion;
        self
    }

    /// What loads find outside; zeros by default.
    #[must_use]
    pub fn oob_fill(mut self, oob_fill: OobFill) -> Self {
        self.oob_fill = oob_fill;
        self
    }

    /// Checks the documented limits. Needs no driver.
    ///
    /// # Errors
    /// [`crate::CudaError::InvalidArgument`] naming the value and the limit.
    pub fn validate(&self) -> CudaResult<()> {
        let multiple = format!("a multiple of {ALIGN}");
        let rank = self.dims.len();
        if rank == 0 || rank > MAX_RANK {
            let limit = format!("at least 1 and at most {MAX_RANK}");
            return Err(invalid("tensor rank", rank, limit));
        }
        let counts = [
            ("number of strides", self.strides.len(), rank - 1),
            ("number of box dimensions", self.box_dims.len(), rank),
        ];
        for (what, count, expected) in counts {
            if count != expected {
                return Err(invalid(
                    what,
                    count,
                    format!("{expected} for a tensor of rank {rank}"),
                ));
            }
        }
        if self.address == 0 || !self.address.is_multiple_of(ALIGN) {
            let value = format!("{:#x}", self.address);
            return Err(invalid("tensor address", value, format!("not null and {multiple}")));
        }
        for (index, &dim) in self.dims.iter().enumerate() {
            if dim == 0 || dim > MAX_DIM {
                let what = format!("tensor dimension {index} (elements)");
                return Err(invalid(what, dim, "at least 1 and at most 2^32"));
            }
        }
        for (index, &stride) in self.strides.iter().enumerate() {
            if stride == 0 || !stride.is_multiple_of(ALIGN) || stride >= MAX_STRIDE {
                let what = format!("stride of dimension {} (bytes)", index + 1);
                return Err(invalid(what, stride, format!("{multiple}, not 0 and less than 2^40")));
            }
        }
        for (index, &extent) in self.box_dims.iter().enumerate() {
            if extent == 0 || extent > MAX_BOX {
                let what = format!("box dimension {index} (elements)");
                return Err(invalid(what, extent, format!("at least 1 and at most {MAX_BOX}")));
            }
        }
        let inner = u64::from(self.box_dims[0]) * self.data_type.size_in_bytes();
        if !inner.is_multiple_of(ALIGN) {
            return Err(invalid("width of the box (bytes)", inner, multiple));
        }
        if let Some(span) = self.swizzle.span().filter(|&span| inner > span) {
            let limit = format!("at most {span}, the swizzle's span");
            return Err(invalid("width of the box (bytes)", inner, limit));
        }
        if self.oob_fill == OobFill::NanRequestZeroFma && !self.data_type.is_float() {
            let value = format!("NaN for {:?}", self.data_type);
            return Err(invalid("out-of-bounds fill", value, "zero for integers"));
        }
        Ok(())
    }

    /// Checks and encodes.
    ///
    /// # Errors
    /// Those of [`TensorMapBuilder::validate`], [`crate::CudaError::NoDriver`],
    /// [`crate::CudaError::MissingSymbol`] from a driver before CUDA 12.0, or what the driver says.
    pub fn build(&self) -> CudaResult<TensorMap> {
        self.validate()?;
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        let element_strides = [1u32; MAX_RANK];
        let address = std::ptr::without_provenance_mut(self.address as usize);
        // SAFETY: the map is a live local of the driver's type and alignment; the arrays have
        // `rank` entries (strides one fewer), checked above; the address is not followed.
        unsafe {
            call!(cuTensorMapEncodeTiled(
                &mut map,
                self.data_type.raw(),
                self.dims.len() as u32,
                address,
                self.dims.as_ptr(),
                self.strides.as_ptr(),
                self.box_dims.as_ptr(),
                element_strides.as_ptr(),
                sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
                self.swizzle.raw(),
                self.l2_promotion.raw(),
                self.oob_fill.raw(),
            ))
        }?;
        Ok(TensorMap { opaque: map.opaque })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X[4096, 8192] of f16 in boxes of 128 rows of 64.
    fn good() -> TensorMapBuilder {
        TensorMapBuilder::new(DevicePointer::<half::f16>::from_raw(0x10_0000))
            .dims(&[8192, 4096])
            .strides(&[16384])
            .box_dims(&[64, 128])
            .swizzle(Swizzle::B128)
            .l2_promotion(L2Promotion::B256)
    }

    #[test]
    fn good_maps_pass() {
        good().validate().unwrap();
        good().oob_fill(OobFill::NanRequestZeroFma).validate().unwrap();
        good().dims(&[1 << 32, 1]).strides(&[(1 << 40) - 16]).validate().unwrap();
        good().dims(&[8192]).strides(&[]).box_dims(&[8]).validate().unwrap();
        good().dims(&[64; 5]).strides(&[128; 4]).box_dims(&[64, 1, 1, 1, 256]).validate().unwrap();
        good().box_dims(&[256, 256]).swizzle(Swizzle::None).validate().unwrap();
    }

    #[test]
    fn bad_maps_name_value_and_limit() {
        let ints = TensorMapBuilder { data_type: TensorDataType::U32, ..good() };
        let cases = [
            (good().dims(&[]), "tensor rank is 0, must be at least 1 and at most 5"),
            (good().dims(&[1; 6]), "tensor rank is 6"),
            (good().strides(&[]), "number of strides is 0, must be 1 for a tensor of rank 2"),
            (good().box_dims(&[64]), "number of box dimensions is 1, must be 2"),
            (
                TensorMapBuilder { address: 0x1008, ..good() },
                "tensor address is 0x1008, must be not null and a multiple of 16",
            ),
            (TensorMapBuilder { address: 0, ..good() }, "tensor address is 0x0"),
            (good().dims(&[8192, 0]), "tensor dimension 1 (elements) is 0"),
            (
                good().dims(&[(1 << 32) + 1, 1]),
                "tensor dimension 0 (elements) is 4294967297, must be at least 1 and at most 2^32",
            ),
            (
                good().strides(&[16392]),
                "stride of dimension 1 (bytes) is 16392, must be a multiple of 16",
            ),
            (good().strides(&[1 << 40]), "stride of dimension 1 (bytes) is 1099511627776"),
            (good().strides(&[0]), "stride of dimension 1 (bytes) is 0"),
            (
                good().box_dims(&[64, 257]),
                "box dimension 1 (elements) is 257, must be at least 1 and at most 256",
            ),
            (good().box_dims(&[0, 1]), "box dimension 0 (elements) is 0"),
            (good().box_dims(&[12, 1]), "width of the box (bytes) is 24, must be a multiple of 16"),
            (
                good().box_dims(&[72, 1]),
                "width of the box (bytes) is 144, must be at most 128, the swizzle's span",
            ),
            (good().swizzle(Swizzle::B32), "width of the box (bytes) is 128, must be at most 32"),
            (
                ints.box_dims(&[32, 1]).oob_fill(OobFill::NanRequestZeroFma),
                "out-of-bounds fill is NaN for U32",
            ),
        ];
        for (builder, expected) in cases {
            let text = builder.validate().unwrap_err().to_string();
            assert!(text.contains(expected), "{text} lacks {expected}");
            // Nothing invalid reaches the driver.
            assert_eq!(builder.build(), builder.validate().map(|()| unreachable!()));
        }
    }

    #[test]
    fn encoding_without_a_driver_is_an_ordinary_error() {
        if !crate::driver_present() {
            assert_eq!(good().build(), Err(crate::CudaError::NoDriver));
        }
    }
}
