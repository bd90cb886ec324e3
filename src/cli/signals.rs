use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use super::exit::PREEMPTED;

/// SIGTERM, SIGUSR1 and SIGINT as wishes that a run should end, saved. However often SIGTERM and SIGUSR1 come, the run has its
/// time to save; a second SIGINT ends it at once with 130. While the run is only loading there is nothing to save, and any of
/// them ends it at once.
pub(super) struct Signals {
    asked: Arc<AtomicBool>,
    loading: Arc<AtomicBool>,
}

impl Signals {
    /// From here on signals are heard, and the run is loading.
    pub(super) fn listen() -> io::Result<Self> {
        let [asked, interrupted] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let loading = Arc::new(AtomicBool::new(true));
        flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(&interrupted))?;
        flag::register(SIGINT, interrupted)?;
        for signal in [SIGINT, SIGTERM, SIGUSR1] {
            flag::register_conditional_shutdown(signal, i32::from(PREEMPTED), Arc::clone(&loading))?;
            flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self { asked, loading })
    }

    /// The run has begun: from now on it is asked, not ended.
    pub(super) fn begin(&self) {
        self.loading.store(false, Ordering::SeqCst);
    }

    /// Whether the run should end.
    pub(super) fn ask_for_an_end(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}
