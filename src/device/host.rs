use std::sync::Arc;

use rayon::prelude::*;

use super::DeviceError;

/// The CPU: a pool of threads. How work is split never changes a result.
#[derive(Clone, Debug)]
pub struct Host {
    pool: Arc<rayon::ThreadPool>,
}

impl Host {
    /// Starts `threads` threads (0: one per core).
    ///
    /// # Errors
    /// When the CPU is older than the supported platform, or threads can't be started.
    pub fn open(threads: usize) -> Result<Self, DeviceError> {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
            return Err(DeviceError::CpuTooOld);
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("patarm-{i}"))
            .build()
            .map_err(|source| DeviceError::Threads { threads, source })?;
        Ok(Self { pool: Arc::new(pool) })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `f` inside the pool.
    pub fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.pool.install(f)
    }

    /// Runs `f` on every task, in parallel, in any order.
    pub fn run<T: Send>(&self, tasks: Vec<T>, f: impl Fn(T) + Send + Sync) {
        match self.threads() {
            1 => tasks.into_iter().for_each(f),
            _ => self.pool.install(|| tasks.into_par_iter().with_max_len(1).for_each(f)),
        }
    }

    /// Runs `f(index, chunk)` on consecutive chunks of `len` elements (the last may be shorter).
    pub fn chunks_mut<T: Send>(&self, data: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Send + Sync) {
        if data.len() <= len || self.threads() == 1 {
            return data.chunks_mut(len.max(1)).enumerate().for_each(|(i, chunk)| f(i, chunk));
        }
        self.pool.install(|| data.par_chunks_mut(len).enumerate().for_each(|(i, chunk)| f(i, chunk)));
    }
}
