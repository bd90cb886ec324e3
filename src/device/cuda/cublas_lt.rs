//! NVIDIA's own product, where its library is found at run time: what a device's matrix units can reach is measured with it, and
//! nothing is computed by it.

use std::ffi::c_void;
use std::panic::catch_unwind;
use std::ptr::from_ref;

use cudarc::cublaslt::{result, sys};
use cudarc::driver::result::DriverError as Code;
use cudarc::driver::result::{free_sync, malloc_sync};
use cudarc::driver::sys::{CUdeviceptr, CUstream};

use super::Address;

/// What the library may use beside operands and result, bytes.
const WORKSPACE: usize = 64 << 20;

/// `CUBLAS_OP_T` of `cublasOperation_t`.
const TRANSPOSED: i32 = 1;

/// y = x wᵀ in bf16, sums in f32, prepared: x [n, k], w [m, k], y [n, m], rows without gaps.
pub(super) struct Product {
    handle: sys::cublasLtHandle_t,
    desc: sys::cublasLtMatmulDesc_t,
    /// Of w, x and y.
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    preference: sys::cublasLtMatmulPreference_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: CUdeviceptr,
    operands: [Address; 3],
    stream: CUstream,
}

/// Why there is no product.
pub(super) type Refused = String;

/// Whether the library is there.
pub(super) fn is_present() -> bool {
    // SAFETY: asks the loader for the library and nothing else.
    catch_unwind(|| unsafe { sys::is_culib_present() }).unwrap_or(false)
}

impl Product {
    /// The context is current, and the operands x, w, y have these sides.
    pub(super) fn new(sides: [usize; 3], operands: [Address; 3], stream: CUstream) -> Result<Self, Refused> {
        // A symbol that an older library lacks is a panic in the crate that looks for it.
        let built = catch_unwind(|| Self::prepared(sides, operands, stream));
        built.unwrap_or_else(|_| Err("the library lacks a function".into()))
    }

    fn prepared([n, m, k]: [usize; 3], operands: [Address; 3], stream: CUstream) -> Result<Self, Refused> {
        use sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA as TURN_A;
        use sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as ROOM;
        use sys::cudaDataType::{CUDA_R_16BF as BF16, CUDA_R_32F as F32};
        let said = |error: result::CublasError| format!("{error:?}");
        let turned = TRANSPOSED;
        // The library counts columns first: there yᵀ = w xᵀ, w's rows being its columns.
        let layout = |rows: usize, columns: usize| {
            result::create_matrix_layout(BF16, rows as u64, columns as u64, rows as i64).map_err(said)
        };
        let handle = result::create_handle().map_err(said)?;
        let desc =
            result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, F32).map_err(said)?;
        let layouts = [layout(k, m)?, layout(k, n)?, layout(m, n)?];
        let preference = result::create_matmul_pref().map_err(said)?;
        let [a, b, c] = layouts;
        // SAFETY: all handles are alive, and the attributes are as wide as their types.
        let found = unsafe {
            let turned_at = from_ref(&turned).cast::<c_void>();
            result::set_matmul_desc_attribute(desc, TURN_A, turned_at, size_of_val(&turned)).map_err(said)?;
            let room_at = from_ref(&WORKSPACE).cast::<c_void>();
            result::set_matmul_pref_attribute(preference, ROOM, room_at, size_of_val(&WORKSPACE))
                .map_err(said)?;
            result::get_matmul_algo_heuristic(handle, desc, a, b, c, c, preference).map_err(said)?
        };
        // SAFETY: the memory is the library's to write first.
        let workspace = unsafe { malloc_sync(WORKSPACE) }.map_err(|Code(code)| format!("{code:?}"))?;
        Ok(Self { handle, desc, layouts, preference, algorithm: found.algo, workspace, operands, stream })
    }

    /// Asks for it once.
    pub(super) fn run(&self) -> Result<(), Refused> {
        let ([a, b, c], [x, w, y]) = (self.layouts, self.operands.map(|at| at.0 as *mut c_void));
        let (one, zero) = (1f32, 0f32);
        // SAFETY: handles, workspace and operands are alive, and the operands have the layouts' sizes.
        let done = unsafe {
            result::matmul(
                self.handle,
                self.desc,
                from_ref(&one).cast(),
                from_ref(&zero).cast(),
                w,
                a,
                x,
                b,
                y,
                c,
                y,
                c,
                &raw const self.algorithm,
                self.workspace as *mut c_void,
                WORKSPACE,
                self.stream.cast(),
            )
        };
        done.map_err(|error| format!("{error:?}"))
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // A device that is lost has nothing to give back. SAFETY: nobody else holds any of these; the driver waits for the work
        // that uses the workspace before it frees it.
        unsafe {
            let _ = free_sync(self.workspace);
            let _ = result::destroy_matmul_pref(self.preference);
            for layout in self.layouts {
                let _ = result::destroy_matrix_layout(layout);
            }
            let _ = result::destroy_matmul_desc(self.desc);
            let _ = result::destroy_handle(self.handle);
        }
    }
}
