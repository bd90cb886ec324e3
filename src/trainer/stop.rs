use std::fmt;
use std::ops::ControlFlow;

use super::{Observer, TrainError};

/// The wish that a run should end. It is asked for between decode steps and between micro-batches, where weights and moments
/// are whole: what is left unfinished there is drawn again, to the same bits, by the run that goes on.
#[derive(Clone, Copy)]
pub struct Stop<'a>(Option<&'a dyn Observer>);

impl<'a> Stop<'a> {
    /// Nobody asks.
    pub const NEVER: Stop<'static> = Stop(None);

    /// Once this observer wants it.
    pub fn of(observer: &'a dyn Observer) -> Self {
        Self(Some(observer))
    }

    /// Whether sampling goes on.
    pub fn flow(self) -> ControlFlow<()> {
        match self.0.is_some_and(Observer::wants_stop) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Ends a phase that should not go on.
    ///
    /// # Errors
    /// `Stopped`, where the run should end.
    pub fn check(self) -> Result<(), TrainError> {
        match self.flow() {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TrainError::Stopped),
        }
    }
}

impl fmt::Debug for Stop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stop")
    }
}
